"""Losses that a training step minimises: one short file an objective, to be read against its paper."""
