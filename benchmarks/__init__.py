"""Performance benchmarks: each module measures one task, beside another way of doing the same work."""
