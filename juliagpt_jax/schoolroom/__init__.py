"""The embedded corpus: lessons, the grammar that varies them, and the examiner that marks what a model writes."""
