"""Datasets: one folder each, with the data card, the parameters, and the function that fetches the raw files."""
