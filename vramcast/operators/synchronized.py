"""Batch norm over the batches of all ranks (`nn.SyncBatchNorm`), which has kernels for CUDA alone.

Sources: aten/src/ATen/native/cuda/Normalization.cu and Normalization.cuh. The statistics have the
type in which is summed up: float32 for 16 bits.
"""

from collections.abc import Callable

import torch

from vramcast import compat
from vramcast.operators.registry import HALF, register, shape

aten = torch.ops.aten


def _channels(input: torch.Tensor, like: torch.Tensor | None = None) -> torch.Tensor:
    """A number for each channel, of the type of `like`; without it, as statistics have it."""
    kind = torch.float32 if input.dtype in HALF else input.dtype
    return input.new_empty(input.shape[1], dtype=kind if like is None else like.dtype)


def _stats(input, eps):
    return _channels(input), _channels(input)


def _gather(input, mean, *args):
    return _channels(input, mean), _channels(input, mean)


def _update(input, *args):
    return _stats(input, None)


def _normalized(input, *args):
    return torch.empty_like(input, memory_format=compat.suggest_memory_format(input))


def _reduce(grad, input, mean, invstd, weight, input_g, weight_g, bias_g):
    sums = [_channels(input, mean) for _ in range(2)]
    of_weight = [_channels(input, mean if weight is None else weight) for _ in range(2)]
    return *sums, *of_weight


def _staging(numbers: int) -> Callable[[tuple], list[int]]:
    """What a sum over the rows of channels that come last takes: so many numbers for each block."""

    def taken(args: tuple) -> list[int]:
        """In bytes; `flexible_launch_configs` decides how many blocks add up the same channels."""
        input = args[0]
        channels = input.shape[1]
        if not channels or not input.numel() or input.stride(1) != 1:
            return []
        rows = input.numel() // channels
        columns = min(_power(channels), 32)
        threads = min(_power(-(-rows // 16)), 512 // columns)
        if columns * threads != 512:
            columns = min(_power(channels), 512 // threads)
        blocks = min(-(-rows // (threads * 16)), 128)
        if blocks < 8:
            return []
        size = 8 if input.dtype == torch.float64 else 4
        return [numbers * channels * blocks * size, 4 * -(-channels // columns)]

    return taken


def _power(number: int) -> int:
    """The largest power of two that is not larger."""
    return 1 << (number.bit_length() - 1)


def _without_notes(forward: Callable, notes: list[str]) -> Callable:
    """Let it look for ranks without input, by a mask, without a note: each rank has as much."""

    def noteless(*args):
        before = len(notes)
        try:
            return forward(*args)
        finally:
            del notes[before:]

    return staticmethod(noteless)


def install(notes: list[str]) -> None:
    """Give these operators shapes, and what they take while they run."""
    for name, rule in {
        "batch_norm_stats": _stats,
        "batch_norm_update_stats": _update,
        "batch_norm_gather_stats": _gather,
        "batch_norm_gather_stats_with_counts": _gather,
        "batch_norm_elemt": _normalized,
        "batch_norm_backward_reduce": _reduce,
        "batch_norm_backward_elemt": _normalized,
    }.items():
        shape(name, rule)
    register(aten.batch_norm_stats.default, buffers=_staging(4))
    register(aten.batch_norm_backward_reduce.default, buffers=_staging(2))
    compat.wrap(compat.SYNCHRONIZED, lambda forward: _without_notes(forward, notes))
