"""The GPU without data."""
