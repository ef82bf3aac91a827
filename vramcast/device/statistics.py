"""What a script is told about memory: `torch.cuda` and `torch.accelerator` ask the same allocators.

All figures are bytes, and those that PyTorch's counters would show.
"""

import collections
import functools

import torch

from vramcast import compat
from vramcast.device.devices import Places
from vramcast.gpus import Model
from vramcast.memory.allocators import Allocators

NAMES = {
    "memory_allocated": "allocated_bytes.all.current",
    "max_memory_allocated": "allocated_bytes.all.peak",
    "memory_reserved": "reserved_bytes.all.current",
    "max_memory_reserved": "reserved_bytes.all.peak",
}
RESETS = ("reset_peak_memory_stats", "reset_max_memory_allocated", "reset_max_memory_cached")


def install(places: Places, allocators: Allocators, model: Model, notes: list[str]) -> None:
    """Let PyTorch tell what has been allocated and reserved on each GPU, all of this model."""
    share = 1.0

    def memory_stats(device=None) -> dict[str, int]:
        """The figures that are known, and 0 for all others."""
        return collections.defaultdict(int, allocators[places.index(device)].statistics())

    def figure(key: str, device=None) -> int:
        return memory_stats(device)[key]

    def mem_get_info(device=None) -> tuple[int, int]:
        """How much the driver has left, and had."""
        taken = model.context + allocators[places.index(device)].reserved
        return max(model.memory - taken, 0), model.memory

    def reset_peaks(device=None) -> None:
        allocators[places.index(device)].reset_peaks()

    def set_per_process_memory_fraction(fraction, device=None) -> None:
        nonlocal share
        share = fraction
        notes.append(
            f"the script limits itself to {fraction:.0%} of the GPU's memory "
            "(set_per_process_memory_fraction), which is not part of the prediction"
        )

    replacements = {
        "memory_stats": memory_stats, "memory_snapshot": lambda *args, **kwargs: [],
        "mem_get_info": mem_get_info, "get_memory_info": mem_get_info,
        "set_per_process_memory_fraction": set_per_process_memory_fraction,
        "get_per_process_memory_fraction": lambda device=None: share,
        "reset_accumulated_memory_stats": lambda device=None: None,
        "empty_cache": places.tracker.empty, "empty_host_cache": lambda: None,
        **dict.fromkeys(RESETS, reset_peaks),
        **{name: functools.partial(figure, key) for name, key in NAMES.items()},
    }  # fmt: skip
    modules = [torch.cuda, torch.cuda.memory, torch.accelerator, compat.accelerator_memory()]
    for place in modules:
        for name, function in replacements.items():
            if hasattr(place, name):
                setattr(place, name, function)
    for place in (torch.cuda, torch.cuda.memory):  # its history is asked for by --snapshot
        place._record_memory_history = place._dump_snapshot = lambda *args, **kwargs: None
        place._snapshot = lambda *args, **kwargs: {"segments": [], "device_traces": [[]]}
