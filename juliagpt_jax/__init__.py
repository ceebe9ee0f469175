"""Small character-level language models in JAX."""
