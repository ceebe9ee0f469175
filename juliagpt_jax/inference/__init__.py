"""A model that is given: opened, scored, sampled from."""
