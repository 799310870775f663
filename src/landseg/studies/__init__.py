"""Studies: a grid over params.yaml, run as DVC experiments, and what is drawn of it."""
