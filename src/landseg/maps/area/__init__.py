"""Areas of classes with confidence intervals."""
