"""Many readers at once: an engine that batches their requests, and a server in front of it."""
