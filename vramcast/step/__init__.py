"""A look into one training step."""
