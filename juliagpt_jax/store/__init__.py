"""A model on disk: workdirs, checkpoints, packed files, and the formats of other programs."""
