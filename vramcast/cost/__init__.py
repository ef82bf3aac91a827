"""The work of a training step.

counter    arithmetic, kernels and traffic of a step, and the least time of an epoch
rules      how each operator is counted
"""
