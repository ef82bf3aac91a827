"""The collective operators of one process group run one after the other.

NCCL runs collectives in the order in which they were launched, also on different streams: each
launch makes its stream wait for the previous launch (ncclLaunchKernelBefore and ncclLaunchFinish in
NCCL's src/enqueue.cc). PyTorch launches a collective on the stream that calls it (ProcessGroupNCCL
since pull request 148590). On a GPU, an asynchronous one has a stream of its own; here it counts as
launched on the caller's stream, too.
"""

import torch
from torch import ScriptObject

from vramcast.compat import ProcessGroup
from vramcast.memory.tracker import Tracker
from vramcast.operators.registry import register


def in_turn(tracker: Tracker, args: tuple) -> None:
    """Book a collective with these arguments, which comes after the previous one of its group."""
    group = group_of(args)
    if group is not None:
        tracker.groups.add(group)
        tracker.follow(tracker.stream, group)
        tracker.record(group, tracker.stream)


def group_of(arguments: tuple) -> str | None:
    """The name of the process group in an operator's arguments; None if it names none."""
    for argument in arguments:
        if isinstance(argument, ScriptObject) and "ProcessGroup" in str(argument._type()):
            return ProcessGroup.unbox(argument).group_name
    words = [argument for argument in arguments if isinstance(argument, str)]
    return words[-1] if words else None


def _staged(args: tuple) -> list[int]:
    """Bytes of copies when a tensor's parts become parts along another dimension.

    Each rank's part is made contiguous, and what comes is put into its order
    (`shard_dim_alltoall` in torch/csrc/distributed/c10d/Functional.cpp).
    """
    part, gathered, parted = args[:3]
    size = part.numel() * part.element_size()
    return [size] * ((parted != 0) + (gathered != 0))


register(torch.ops._dtensor.shard_dim_alltoall.default, buffers=_staged)
