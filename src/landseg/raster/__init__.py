"""Reading and writing raster files."""
