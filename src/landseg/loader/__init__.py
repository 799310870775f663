"""Batch loaders of tiles."""
