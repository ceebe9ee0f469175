"""What a training step minimises. One short file an objective, to be read against its paper."""
