"""Data sets: one small module each, and what they share."""
