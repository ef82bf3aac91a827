"""Processes that end with their command."""
