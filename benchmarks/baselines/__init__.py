"""What the population engine is measured against: the same deep MLP, trained the way one would without it."""
