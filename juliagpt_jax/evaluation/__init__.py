"""Measures of a model: its quality, what it has learned and copied, influence of its text, its cost beside the
machine's limits."""
