"""Processes that end with their command.

pool          calls side by side, as many as cores and memory allow
supervisor    runs a function in a process of its own
entry         how a command begins and ends: streams, signals, exit status
keeper        stands between the command and that process, and ends all that it started
forkserver    makes the process that others are forked from end with its command
messages      what crosses from a script's process to its command: JSON, and plain text
output        what a script prints while nobody looks
launchers     what torchrun, SLURM and MPI may have left in the environment
"""
