"""Stand-ins that let an unmodified script run where its hardware, weights or data are missing.

They are patched in at the boundaries of libraries (torch, torchvision, lightning), never in a
script: see `run.py` for the order.
"""

used: dict[str, str] = {}  # what a script asked for, and what it was given in its place
