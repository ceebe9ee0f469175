"""Small language models in JAX: what makes them better, measured at equal budget."""
