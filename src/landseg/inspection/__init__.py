"""Inspection of a folder of images and labels, and a params.yaml for it."""
