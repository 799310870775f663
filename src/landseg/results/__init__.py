"""Results of runs: reading, comparing and tabulating them."""
