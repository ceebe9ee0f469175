"""Tasks: questions with answers, read from a user's files or made up, and verifiers that need no model."""
