"""Maps of classes: writing and reading them, and what follows from them."""
