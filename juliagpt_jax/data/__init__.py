"""Text -> tokens -> batches. Knows no model."""
