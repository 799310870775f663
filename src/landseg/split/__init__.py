"""Split tiles into train, val and test."""
