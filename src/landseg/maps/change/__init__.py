"""Land-cover change between two maps."""
