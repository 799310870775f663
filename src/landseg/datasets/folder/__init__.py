"""Images and masks of one's own, from a local folder.

Files are copied, not linked: DVC then versions the very pixels that a model was trained on, and its
links to its cache, which are read-only, never reach the files of their owner.
"""
