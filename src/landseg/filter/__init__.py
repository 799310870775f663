"""Filter: select scenes by cloud cover; compute median composites."""
