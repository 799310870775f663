"""Plan tiles from raster headers."""
