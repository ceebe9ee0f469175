"""Puzzles: grids to fill in, with their solutions, as sequences of symbols for recursive models."""
