"""Training: losses, augmentation, the loop over epochs and batches, checkpoints."""
