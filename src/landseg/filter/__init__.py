"""Select scenes by cloud cover; median composites."""
