"""`torch.cuda` as a script finds it: which GPU there is, and how many."""

import functools
import uuid
from types import SimpleNamespace

import torch

from vramcast import compat
from vramcast.device import graphs, statistics, streams, tensor_types
from vramcast.device.devices import Places
from vramcast.gpus import Model
from vramcast.memory.allocators import Allocators
from vramcast.operators.cudnn_devices import LIMITS


def choose(places: Places, device: torch.device | str | int) -> None:
    """Make a GPU the current one, as `torch.cuda.set_device`; a number below 0 changes nothing."""
    if type(device) is not int or device >= 0:
        places.choose(places.index(device))


class Device:
    """In the place of `torch.cuda.device`: a context with another current GPU."""

    places: Places

    idx = prev_idx = 0

    def __init__(self, device=None) -> None:
        self.device = -1 if device is None else device
        self._outer: list[int] = []

    def __enter__(self) -> None:
        self._outer.append(self.places.index())
        choose(self.places, self.device)

    def __exit__(self, *exception) -> None:
        self.places.choose(self._outer.pop())


class PlanCache(list):
    """In the place of cuFFT's caches of plans, one for each GPU: they are empty."""

    size = max_size = 0


def install(places: Places, allocators: Allocators, model: Model, notes: list[str]) -> None:
    """Let a script find the GPUs of these places, all of a model."""
    tracker, gpus, Device.places = places.tracker, places.gpus, places
    properties = _properties(model)
    fixed = {
        "is_available": True, "device_count": gpus, "is_initialized": False,
        "_lazy_init": None, "init": None,
        "manual_seed": None, "manual_seed_all": None, "seed": None, "seed_all": None,
        "initial_seed": 0, "set_rng_state": None, "set_rng_state_all": None,
        "can_device_access_peer": True, "set_sync_debug_mode": None,
        "is_current_stream_capturing": False, "ipc_collect": None, "utilization": 0,
        "memory_usage": 0, "temperature": 0, "power_draw": 0, "clock_rate": 0,
        "current_blas_handle": 0, "current_solver_handle": 0, "_exchange_device": 0,
        "_maybe_exchange_device": 0,
    }  # fmt: skip
    for key, value in fixed.items():
        setattr(torch.cuda, key, functools.partial(_answer, value))

    def of_each(value, device=None):
        """A property that all GPUs have alike. Raises as `Places.index`."""
        places.index(device)
        return value

    for key, value in {
        "get_device_name": model.name, "get_device_properties": properties,
        "get_device_capability": model.capability,
    }.items():  # fmt: skip
        setattr(torch.cuda, key, functools.partial(of_each, value))

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
    torch.cuda.current_device = lambda: tracker.gpu
    torch.cuda.set_device = lambda device: choose(places, device)
    torch.cuda.device = Device
    torch.cuda.device_of = lambda obj: Device(obj.get_device() if obj.is_cuda else None)
    torch.cuda.default_generators = tuple(torch.Generator() for _ in range(gpus))
    torch.backends.cuda.cufft_plan_cache = PlanCache(PlanCache() for _ in range(gpus))
    torch.cuda.profiler.start = torch.cuda.profiler.stop = functools.partial(_answer, None)
    torch.accelerator.is_available = functools.partial(_answer, True)
    torch.accelerator.device_count = functools.partial(_answer, gpus)
    for name in ("index", "idx"):
        setattr(torch.accelerator, f"current_device_{name}", torch.cuda.current_device)
        setattr(torch.accelerator, f"set_device_{name}", torch.cuda.set_device)
    torch.accelerator.device_index = Device
    torch.accelerator.current_accelerator = functools.partial(_answer, torch.device("cuda"))
    compat.find_accelerator()
    tensor_types.install()
    streams.install(places)
    statistics.install(places, allocators, model, notes)
    graphs.install(tracker, notes)


def _properties(model: Model) -> SimpleNamespace:
    """What `torch.cuda.get_device_properties` tells; what is not known of a GPU is 0."""
    major, minor = model.capability
    threads, _, shared = LIMITS.get(model.capability, (2048, 32, 96))
    told = {
        "name": model.name, "total_memory": model.memory, "major": major, "minor": minor,
        "multi_processor_count": model.multiprocessors, "gcnArchName": "", "warp_size": 32,
        "L2_cache_size": model.cache, "regs_per_multiprocessor": 65536,
        "max_threads_per_block": 1024, "max_threads_per_multi_processor": threads,
        "shared_memory_per_block": 48 * 1024, "shared_memory_per_block_optin": shared * 1024,
        # from compute capability 8 on, 1 KiB of each block's is the system's
        "shared_memory_per_multiprocessor": (shared + (major >= 8)) * 1024,
        "clock_rate": model.clock, "memory_clock_rate": model.memory_clock,
        "uuid": uuid.UUID(int=0),
    }  # fmt: skip
    names = [name for name in dir(compat.DeviceProperties) if not name.startswith("_")]
    return SimpleNamespace(**dict.fromkeys(names, 0) | told)


def _answer(value, *args, **kwargs):
    return value
