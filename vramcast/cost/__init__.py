"""The work of a training step."""
