"""Convert raster windows to PNG tiles."""
