"""landseg: land-cover maps from satellite and aerial imagery, with scores that can be traced."""
