"""Text to tokens to batches. Knows no model."""
