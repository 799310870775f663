"""Shared by every stage: files, tables, parameters, classes."""
