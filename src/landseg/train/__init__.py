"""Training: losses, augmentation, the Lightning module, checkpoints."""
