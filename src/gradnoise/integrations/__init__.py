"""Gradient noise where a framework owns the optimizer: `integrations.lightning` and `integrations.transformers`."""
