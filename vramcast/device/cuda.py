"""`torch.cuda` as a script finds it: the GPU's properties, memory, streams and events."""

import collections
import contextlib
import functools
from types import SimpleNamespace

import torch

from vramcast import compat
from vramcast.device.devices import CUDA
from vramcast.gpus import Model
from vramcast.memory.allocator import CachingAllocator
from vramcast.memory.tracker import Tracker


class Stream:
    """In the place of `torch.cuda.Stream`; stream 0 is the default one."""

    tracker: Tracker
    count = 0
    device_index, device_type = 0, 1  # 1: CUDA (c10/core/DeviceType.h)

    def __init__(self, *args, **kwargs) -> None:
        Stream.count += 1
        self.number = Stream.count
        self.device = CUDA

    @property
    def stream_id(self) -> int:
        """A number of its own, for which FSDP2 asks since 2.15."""
        return self.number

    def synchronize(self) -> None:
        self.record_event().synchronize()

    def record_event(self, event=None):
        event = event or Event()
        event.record(self)
        return event

    def wait_event(self, event) -> None:
        self.tracker.follow(self.number, event)

    def wait_stream(self, stream) -> None:
        self.wait_event(stream.record_event())

    def query(self) -> bool:
        return True


class Event:
    """In the place of `torch.cuda.Event`: a point in a stream."""

    def __init__(self, *args, **kwargs) -> None:
        pass

    def record(self, stream=None) -> None:
        Stream.tracker.record(self, _number(stream))

    def synchronize(self) -> None:
        Stream.tracker.wait(self)

    def wait(self, stream=None) -> None:
        Stream.tracker.follow(_number(stream), self)

    def query(self) -> bool:
        return True

    def elapsed_time(self, end) -> float:
        return 1.0  # milliseconds; nothing is timed


class Device(contextlib.nullcontext):
    """In the place of `torch.cuda.device`, which changes nothing here: there is one GPU."""


def _number(stream: Stream | None) -> int:
    return Stream.tracker.stream if stream is None else stream.number


@contextlib.contextmanager
def _in_stream(stream):
    if stream is None:
        yield
        return
    outer, Stream.tracker.stream = Stream.tracker.stream, stream.number
    try:
        yield
    finally:
        Stream.tracker.stream = outer


def _stream(number: int) -> Stream:
    stream = Stream.__new__(Stream)
    stream.number, stream.device = number, CUDA
    return stream


def install(tracker: Tracker, model: Model, gpus: int) -> None:
    """Let a script find so many GPUs of a model."""
    Stream.tracker = tracker
    name, total, capability = model.name, model.memory, model.capability
    properties = SimpleNamespace(
        name=name, total_memory=total, major=capability[0], minor=capability[1],
        multi_processor_count=model.multiprocessors, gcnArchName="",
    )  # fmt: skip
    fixed = {
        "is_available": True, "device_count": gpus, "current_device": 0, "is_initialized": False,
        "get_device_name": name, "get_device_properties": properties,
        "get_device_capability": capability, "is_bf16_supported": model.bfloat16,
        "_lazy_init": None, "init": None, "set_device": None,
        "reset_peak_memory_stats": None, "manual_seed": None, "manual_seed_all": None,
        "set_rng_state": None, "set_rng_state_all": None,
        "is_current_stream_capturing": False, "ipc_collect": None,
        "mem_get_info": (total, total), "reset_max_memory_allocated": None,
    }  # fmt: skip
    for key, value in fixed.items():
        setattr(torch.cuda, key, functools.partial(_answer, value))
    torch.cuda.get_rng_state = lambda *args: torch.empty(16, dtype=torch.uint8, device="cpu")
    torch.cuda.get_rng_state_all = lambda: [torch.cuda.get_rng_state()] * gpus
    for key in ("get_rng_state", "set_rng_state"):  # called from there, too
        setattr(torch.cuda.random, key, getattr(torch.cuda, key))
    torch.cuda.Stream, torch.cuda.Event = Stream, Event
    torch.cuda.stream = _in_stream
    torch.cuda.current_stream = lambda *args: _stream(tracker.stream)
    torch.cuda.default_stream = lambda *args: _stream(0)
    torch.cuda.synchronize = lambda *args: tracker.wait(None)
    torch.cuda.empty_cache = tracker.empty
    torch.cuda.device = Device
    torch.accelerator.is_available = functools.partial(_answer, True)
    torch.accelerator.current_accelerator = functools.partial(_answer, torch.device("cuda"))
    compat.find_accelerator()


def install_statistics(allocator: CachingAllocator) -> None:
    """Let `torch.cuda` tell what this allocator has allocated and reserved, in bytes."""
    for name in ("max_allocated", "max_reserved", "allocated", "reserved"):
        key = f"max_memory_{name[4:]}" if name.startswith("max_") else f"memory_{name}"
        setattr(torch.cuda, key, lambda *args, name=name, **kwargs: getattr(allocator, name))
    torch.cuda.memory_stats = functools.partial(_statistics, allocator)
    torch.cuda.memory_summary = lambda *args, **options: ""


def _statistics(allocator: CachingAllocator, *args) -> dict[str, int]:
    """In the place of `torch.cuda.memory_stats`: the known figures, and 0 for all others."""
    known = {
        f"{kind}_bytes.all.{when}": getattr(allocator, f"max_{kind}" if when == "peak" else kind)
        for kind in ("allocated", "reserved")
        for when in ("current", "peak")
    }
    return collections.defaultdict(int, known)


def _answer(value, *args, **kwargs):
    return value
