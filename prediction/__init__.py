"""The GPU without data, on which `predict_memory.py` runs a script."""
