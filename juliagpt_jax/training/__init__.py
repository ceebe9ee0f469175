"""The one train step, and the loop around it."""
