"""Studies: grids of experiments over params.yaml, run with DVC, and their reports."""
