"""Tile: plan tiles from raster headers."""
