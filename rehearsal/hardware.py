"""The CPU in the GPU's place: "cuda" devices, `torch.cuda` and autocast.

Every operator really runs, with inputs and results in the precision that the script asks for.
Speed and GPU memory are not real: `torch.cuda`'s memory counters stay at zero. And if a script
forgets to move a tensor to the GPU, that is not noticed.
"""

import contextlib
import ctypes
import functools
import inspect
import os
import platform
import time
import warnings
from types import SimpleNamespace

import torch
from torch.overrides import TorchFunctionMode

from rehearsal import arithmetic, fabric, used

CPU = torch.device("cpu")
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h


def install(gpus: int = 1) -> None:
    """Let scripts find `gpus` GPUs with bfloat16; each of them is this CPU."""
    used["the GPU"] = "this CPU"
    # threads that wait for each other do so by spinning: on a busy machine, two are not a bit
    # faster than one, but ten times as slow
    torch.set_num_threads(1)
    _keep_freed_memory()
    _replace_cuda_module(gpus)
    _CudaMeansCpu().__enter__()
    _replace_amp()
    fabric.install(gpus)
    arithmetic.install()
    torch.autograd.graph.save_on_cpu = _CopyOfSaved
    # a compiler takes minutes, and not every machine has one
    torch.compiler.set_stance("force_eager")
    # the fused attention of nn.MultiheadAttention would bypass the functions replaced above
    torch.backends.mha.set_fastpath_enabled(False)
    # pinned memory is a GPU's business
    warnings.filterwarnings("ignore", message=".*pin_memory.*")
    warnings.filterwarnings("ignore", message=".*sharding initialization run on CPU.*")


def _keep_freed_memory() -> None:
    """Let glibc keep freed memory, which the next batch needs again: see mallopt(3).

    To give it back and to fetch it anew takes a sixth of a rehearsal's time.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # not on macOS
        libc.mallopt(M_MMAP_MAX, 0)  # what is mapped by itself is given back at once
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def _replace_cuda_module(gpus: int) -> None:
    host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    properties = SimpleNamespace(
        name=f"stand-in: CPU ({platform.machine()}, {os.cpu_count()} cores)",
        total_memory=host,
        major=8,
        minor=0,
        multi_processor_count=os.cpu_count(),
    )
    fixed = {
        "is_available": True,
        "device_count": gpus,
        "current_device": 0,
        "get_device_name": properties.name,
        "get_device_properties": properties,
        "get_device_capability": (properties.major, properties.minor),
        "is_bf16_supported": True,
        "mem_get_info": (host, host),
    }
    nothing = ("init", "set_device", "synchronize", "empty_cache", "reset_peak_memory_stats")
    zero = (
        "memory_allocated",
        "memory_reserved",
        "max_memory_allocated",
        "max_memory_reserved",
    )
    for name, value in {**fixed, **dict.fromkeys(nothing), **dict.fromkeys(zero, 0)}.items():
        setattr(torch.cuda, name, functools.partial(_answer, value))
    torch.cuda.Event, torch.cuda.Stream = _Event, _Stream
    torch.cuda.current_stream = torch.cuda.default_stream = functools.partial(_answer, _Stream())
    torch.cuda.stream = contextlib.nullcontext
    # PyTorch's own code (pinning, CUDA graphs) asks here, and is told the truth
    torch.accelerator.is_available = functools.partial(_answer, False)
    torch.accelerator.current_accelerator = functools.partial(_answer, None)


def _answer(value, *args, **kwargs):
    return value


class _Event:
    """In the place of `torch.cuda.Event`: the time at which it was recorded."""

    def __init__(self, *args, **kwargs) -> None:
        self.time = None

    def record(self, *args) -> None:
        self.time = time.perf_counter()

    def elapsed_time(self, end: "_Event") -> float:
        """Milliseconds from this event to `end`."""
        return 1000 * (end.time - self.time)

    synchronize = wait = query = functools.partial(_answer, True)


class _Stream:
    """In the place of `torch.cuda.Stream`: here every operator ends before the next one begins."""

    def __init__(self, *args, **kwargs) -> None:
        pass

    def record_event(self, event: _Event | None = None) -> _Event:
        event = event or _Event()
        event.record()
        return event

    def __enter__(self) -> "_Stream":
        return self

    def __exit__(self, *args) -> None:
        pass

    synchronize = wait_stream = wait_event = query = functools.partial(_answer, True)


class _CudaMeansCpu(TorchFunctionMode):
    """Replaces "cuda" by "cpu" in every PyTorch call that takes a device."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in ("cuda", "pin_memory", "record_stream"):  # a tensor is where it belongs
            return args[0]
        kwargs.pop("pin_memory", None)
        if name == "to":
            args = tuple(_to_cpu(arg) for arg in args)
        if "device" in kwargs:
            kwargs = {**kwargs, "device": _to_cpu(kwargs["device"])}
        return func(*args, **kwargs)


def _to_cpu(device):
    """`device` itself, or the CPU where it means a GPU: "cuda", "cuda:1", torch.device, 0."""
    if isinstance(device, str) and device.startswith("cuda"):
        return CPU
    if isinstance(device, torch.device) and device.type == "cuda":
        return CPU
    return CPU if type(device) is int else device


def _replace_amp() -> None:
    """Let autocast and GradScaler that ask for a GPU work on the CPU."""

    def on_cpu(init):
        signature = inspect.signature(init)
        name = "device_type" if "device_type" in signature.parameters else "device"

        @functools.wraps(init)
        def wrapped(self, *args, **kwargs):
            bound = signature.bind_partial(self, *args, **kwargs)
            if str(bound.arguments.get(name, "cuda")).startswith("cuda"):
                bound.arguments[name] = "cpu"
            init(*bound.args, **bound.kwargs)

        return wrapped

    torch.amp.GradScaler.__init__ = on_cpu(torch.amp.GradScaler.__init__)
    torch.autocast.__init__ = on_cpu(torch.autocast.__init__)


class _CopyOfSaved(torch.autograd.graph.saved_tensors_hooks):
    """In the place of `save_on_cpu`: what is saved is a copy, as it is beside a real GPU."""

    def __init__(self, pin_memory: bool = False, device_type: str = "cuda") -> None:
        super().__init__(lambda tensor: tensor.clone(), lambda copy: copy)
