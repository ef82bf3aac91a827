"""The scripts as data, and what both commands share."""
