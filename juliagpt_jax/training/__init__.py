"""Loss, optimizers, the one train step, checkpoints, metrics, the loop."""
