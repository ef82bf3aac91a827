"""A look into one training step.

lines       the line of the script that an allocation comes from
timeline    the memory of one step over time, and what its peak consists of
snapshot    the history in the format of PyTorch's memory viewer
"""
