"""Tokens -> logits, with or without a cache. Knows no data and no optimizer."""
