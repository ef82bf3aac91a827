"""One script, run in a process of its own."""
