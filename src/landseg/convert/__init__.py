"""Convert: encode tiles as PNG, one archive per scene; count the pixels of each class."""
