"""`torch.cuda` as a script finds it: which GPU there is, and how many."""

import contextlib
import functools
from types import SimpleNamespace

import torch

from vramcast import compat
from vramcast.device import graphs, statistics, streams, tensor_types
from vramcast.gpus import Model
from vramcast.memory.allocator import CachingAllocator
from vramcast.memory.tracker import Tracker


class Device(contextlib.nullcontext):
    """In the place of `torch.cuda.device`, which changes nothing here: there is one GPU."""

    def __init__(self, device=None) -> None:
        super().__init__()


def install(
    tracker: Tracker, allocator: CachingAllocator, model: Model, gpus: int, notes: list[str]
) -> None:
    """Let a script find so many GPUs of a model, with an allocator that follows the tracker."""
    properties = SimpleNamespace(
        name=model.name, total_memory=model.memory, major=model.capability[0],
        minor=model.capability[1], multi_processor_count=model.multiprocessors, gcnArchName="",
    )  # fmt: skip
    fixed = {
        "is_available": True, "device_count": gpus, "current_device": 0, "is_initialized": False,
        "get_device_name": model.name, "get_device_properties": properties,
        "get_device_capability": model.capability,
        "_lazy_init": None, "init": None, "set_device": None,
        "manual_seed": None, "manual_seed_all": None, "seed": None, "seed_all": None,
        "initial_seed": 0, "set_rng_state": None, "set_rng_state_all": None,
        "can_device_access_peer": True, "set_sync_debug_mode": None,
        "is_current_stream_capturing": False, "ipc_collect": None, "utilization": 0,
        "memory_usage": 0, "temperature": 0, "power_draw": 0, "clock_rate": 0,
    }  # fmt: skip
    for key, value in fixed.items():
        setattr(torch.cuda, key, functools.partial(_answer, value))

    def is_bf16_supported(including_emulation: bool = True) -> bool:
        """PyTorch's answer: older GPUs emulate it (torch/cuda/__init__.py)."""
        return including_emulation or model.bfloat16

    def get_rng_state(device="cuda") -> torch.Tensor:
        return torch.empty(16, dtype=torch.uint8, device="cpu")

    torch.cuda.is_bf16_supported = is_bf16_supported
    torch.cuda.get_rng_state = get_rng_state
    torch.cuda.get_rng_state_all = lambda: [get_rng_state()] * gpus
    for key in ("get_rng_state", "set_rng_state", "initial_seed"):  # called from there, too
        setattr(torch.cuda.random, key, getattr(torch.cuda, key))
    torch.cuda.device = Device
    torch.cuda.profiler.start = torch.cuda.profiler.stop = functools.partial(_answer, None)
    torch.accelerator.is_available = functools.partial(_answer, True)
    torch.accelerator.device_count = functools.partial(_answer, gpus)
    torch.accelerator.current_device_index = functools.partial(_answer, 0)
    torch.accelerator.set_device_index = functools.partial(_answer, None)
    torch.accelerator.device_index = Device
    torch.accelerator.current_accelerator = functools.partial(_answer, torch.device("cuda"))
    compat.find_accelerator()
    tensor_types.install()
    streams.install(tracker)
    statistics.install(allocator, tracker, model, notes)
    graphs.install(tracker, notes)


def _answer(value, *args, **kwargs):
    return value
