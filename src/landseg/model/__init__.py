"""The model: architecture, weights, metadata, device."""
