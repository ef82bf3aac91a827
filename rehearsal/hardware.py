"""The CPU in the GPU's place: "cuda" devices, `torch.cuda` and autocast.

Every operator really runs, with inputs and results in the precision that the script asks for.
Speed and GPU memory are not real: `torch.cuda`'s memory counters stay at zero. A tensor says
that it is on the CPU, and if a script forgets to move it to the GPU, that is not noticed.
"""

import contextlib
import ctypes
import functools
import importlib
import inspect
import os
import platform
import time
import warnings
from collections import Counter
from types import SimpleNamespace

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._device import DeviceContext

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
    _replace_devices()
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
        warp_size=32,
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
        "memory_stats": Counter(),
        "memory_summary": "",
        "memory_snapshot": [],
        "list_gpu_processes": "",
        "is_current_stream_capturing": False,
        "can_device_access_peer": True,
    }
    nothing = (
        "init", "set_device", "synchronize", "empty_cache", "ipc_collect", "set_stream",
        "reset_peak_memory_stats", "reset_accumulated_memory_stats", "reset_max_memory_allocated",
        "reset_max_memory_cached", "set_per_process_memory_fraction", "set_sync_debug_mode",
        "manual_seed", "manual_seed_all", "seed", "seed_all",
    )  # fmt: skip
    zero = (
        "memory_allocated", "memory_reserved", "max_memory_allocated", "max_memory_reserved",
        "memory_cached", "max_memory_cached", "utilization", "memory_usage", "temperature",
        "power_draw", "clock_rate", "initial_seed", "device_memory_used",
    )  # fmt: skip
    for name, value in {**fixed, **dict.fromkeys(nothing), **dict.fromkeys(zero, 0)}.items():
        setattr(torch.cuda, name, functools.partial(_answer, value))
    for module, names in {
        torch.cuda.nvtx: ("range_push", "range_pop", "range_start", "range_end", "mark"),
        torch.cuda.profiler: ("start", "stop"),
        torch.cuda.memory: ("_record_memory_history", "_dump_snapshot"),  # which pages advise
    }.items():
        for name in names:
            setattr(module, name, functools.partial(_answer, None))
    torch.cuda.Event, torch.cuda.Stream = _Event, _Stream
    torch.cuda.current_stream = torch.cuda.default_stream = functools.partial(_answer, _Stream())
    torch.Tensor.record_stream = functools.partial(_answer, None)
    for name in ("stream", "device", "device_of"):
        setattr(torch.cuda, name, contextlib.nullcontext)
    # there is one source of random numbers, the CPU's
    torch.cuda.default_generators = (torch.default_generator,) * gpus
    torch.cuda.get_rng_state = lambda device="cuda": torch.get_rng_state()
    torch.cuda.set_rng_state = lambda new_state, device="cuda": torch.set_rng_state(new_state)
    torch.cuda.get_rng_state_all = lambda: [torch.get_rng_state()] * gpus
    torch.cuda.set_rng_state_all = lambda new_states: torch.set_rng_state(new_states[0])
    torch.cuda.make_graphed_callables = lambda callables, *args, **kwargs: callables
    torch.cuda.CUDAGraph = torch.cuda.graph = _Graph
    torch.cuda._lazy_init = _no_stand_in  # all else that needs a driver asks for it here
    # PyTorch's own code (pinning, CUDA graphs) asks here, and is told the truth
    torch.accelerator.is_available = functools.partial(_answer, False)
    torch.accelerator.current_accelerator = functools.partial(_answer, None)


def _answer(value, *args, **kwargs):
    return value


def _no_stand_in(*args, **kwargs):
    raise RuntimeError(
        "there is no stand-in for this use of a GPU (a CUDA graph, or code of its own): "
        "see docs/rehearsal.md"
    )


class _Graph:
    """In the place of `torch.cuda.CUDAGraph`, which libraries name, but do not make."""

    __init__ = _no_stand_in


class _Event:
    """In the place of `torch.cuda.Event`: the time at which it was recorded."""

    def __init__(self, *args, **kwargs) -> None:
        self.time = None

    def record(self, stream=None) -> None:
        self.time = time.perf_counter()

    def elapsed_time(self, end_event: "_Event") -> float:
        """Milliseconds from this event to the other."""
        return 1000 * (end_event.time - self.time)

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
    """Replaces "cuda" by "cpu" in every PyTorch call that takes a device.

    What moves a tensor between the two makes a copy, as it does beside a real GPU: a script may
    change the one and rely on the other. A tensor that is moved to where it is is copied, too.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name == "pin_memory":
            return args[0]
        if name == "cuda":
            return args[0].clone(**{key: kwargs[key] for key in kwargs if key == "memory_format"})
        kwargs.pop("pin_memory", None)
        moved = name == "cpu"
        if name == "to":
            named = [*args[1:], kwargs.get("device")]
            moved = any(isinstance(one, str) or _to_cpu(one) is not one for one in named)
            args = tuple(_to_cpu(arg) for arg in args)
        if name == "type":
            args = tuple(_type_of_cpu(arg) for arg in args)
        if "device" in kwargs:
            kwargs["device"] = _to_cpu(kwargs["device"])
        result = func(*args, **kwargs)
        return result.clone() if moved and result is args[0] else result


def _to_cpu(device):
    """`device` itself, or the CPU where it means a GPU: "cuda", "cuda:1", torch.device, 0."""
    if isinstance(device, str) and device.startswith("cuda"):
        return CPU
    if isinstance(device, torch.device) and device.type == "cuda":
        return CPU
    return CPU if type(device) is int else device


def _type_of_cpu(kind):
    """`kind` itself, or the CPU's where it is the old name of a GPU's: "torch.cuda.FloatTensor"."""
    return kind.replace("torch.cuda.", "torch.") if isinstance(kind, str) else kind


def _replace_devices() -> None:
    """Let what takes a device without being an operator take the CPU."""
    in_context = DeviceContext.__init__  # torch.set_default_device, with torch.device(…)

    @functools.wraps(in_context)
    def init(self, device) -> None:
        in_context(self, _to_cpu(device))

    DeviceContext.__init__ = init
    # DataParallel then runs the module itself
    data_parallel = importlib.import_module("torch.nn.parallel.data_parallel")
    data_parallel._get_available_device_type = functools.partial(_answer, None)
    generator, load, set_type = torch.Generator, torch.load, torch.set_default_tensor_type
    for name, value in vars(torch).items():
        if type(value) is type(torch.FloatTensor):  # and its like, as old as that
            setattr(torch.cuda, name, value)
    torch.set_default_tensor_type = lambda t, /: set_type(_type_of_cpu(t))

    class AnyGenerator(type):
        def __instancecheck__(cls, value) -> bool:
            return isinstance(value, generator)

        def __call__(cls, device="cpu"):
            return generator(_to_cpu(device))

    torch.Generator = AnyGenerator("Generator", (), {"__doc__": generator.__doc__})

    @functools.wraps(load)
    def load_on_cpu(f, map_location=None, *args, **kwargs):
        if not callable(map_location) and str(map_location) != "meta":
            map_location = CPU
        return load(f, map_location, *args, **kwargs)

    torch.load = load_on_cpu


def _replace_amp() -> None:
    """Let autocast and GradScaler that ask for a GPU work on the CPU, in a GPU's default type."""

    def on_cpu(function):
        signature = inspect.signature(function)
        name = "device_type" if "device_type" in signature.parameters else "device"

        @functools.wraps(function)
        def wrapped(*args, **kwargs):
            bound = signature.bind_partial(*args, **kwargs)
            if str(bound.arguments.get(name, "cuda")).startswith("cuda"):
                bound.arguments[name] = "cpu"
            return function(*bound.args, **bound.kwargs)

        return wrapped

    def asked_of_cpu(function):
        """A function of C++ whose first argument may be a device's type, by default a GPU's."""

        @functools.wraps(function)
        def wrapped(*args, device_type=None, **kwargs):
            given = args if device_type is None else (device_type, *args)
            kind, *rest = given if given and isinstance(given[0], str) else ("cuda", *given)
            return function("cpu" if kind.startswith("cuda") else kind, *rest, **kwargs)

        return wrapped

    torch.amp.GradScaler.__init__ = on_cpu(torch.amp.GradScaler.__init__)
    torch.autocast.__init__ = on_cpu(torch.autocast.__init__)
    torch.set_autocast_dtype("cpu", torch.get_autocast_dtype("cuda"))
    names = ("is_autocast_enabled", "set_autocast_enabled", "get_autocast_dtype")
    for name in (*names, "set_autocast_dtype"):
        setattr(torch, name, asked_of_cpu(getattr(torch, name)))
    torch.get_autocast_gpu_dtype = torch.get_autocast_dtype
    torch.set_autocast_gpu_dtype = torch.set_autocast_dtype
    for name in ("custom_fwd", "custom_bwd"):
        setattr(torch.amp, name, on_cpu(getattr(torch.amp, name)))
        setattr(torch.cuda.amp, name, functools.partial(getattr(torch.amp, name)))


class _CopyOfSaved(torch.autograd.graph.saved_tensors_hooks):
    """In the place of `save_on_cpu`: what is saved is a copy, as it is beside a real GPU."""

    def __init__(self, pin_memory: bool = False, device_type: str = "cuda") -> None:
        super().__init__(lambda tensor: tensor.clone(), lambda copy: copy)
