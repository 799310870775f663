"""Results of runs: read, compare, tabulate."""
