"""Parameters: one module a stage, so that a stage depends only on what it reads."""
