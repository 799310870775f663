"""Your own images and masks, from a local folder.

Files are copied, not linked: DVC then versions the exact pixels that a model was trained on, and its read-only cache
links never replace your files.
"""
