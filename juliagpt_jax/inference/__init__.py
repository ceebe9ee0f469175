"""A model that is given: sampling and generation."""
