"""Split: assign tiles to train, val and test."""
