"""Export models."""
