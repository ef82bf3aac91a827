"""Collectives: those of one process group run one after the other.

NCCL runs what one communicator is given in that order, whatever streams it came from: each launch
makes its stream wait for the last one (ncclLaunchKernelBefore and ncclLaunchFinish in NCCL's
src/enqueue.cc). PyTorch launches a collective on the stream that calls it (ProcessGroupNCCL since
pull request 148590). An asynchronous one has a stream of its own there; it counts as launched on
the caller's, too.
"""

from torch import ScriptObject
from torch._C._distributed_c10d import ProcessGroup

from prediction.tracker import Tracker


def in_turn(tracker: Tracker, args: tuple) -> None:
    """Book a collective with these arguments, after the one before it of its group."""
    group = group_of(args)
    if group is not None:
        tracker.follow(tracker.stream, group)
        tracker.record(group, tracker.stream)


def group_of(arguments: tuple) -> str | None:
    """The name of the process group in an operator's arguments; None if it names none."""
    for argument in arguments:
        if isinstance(argument, ScriptObject) and "ProcessGroup" in str(argument._type()):
            return ProcessGroup.unbox(argument).group_name
    words = [argument for argument in arguments if isinstance(argument, str)]
    return words[-1] if words else None
