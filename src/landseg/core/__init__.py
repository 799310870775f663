"""Code shared by all stages: parameters, classes, tables, files, tile archives and errors."""
