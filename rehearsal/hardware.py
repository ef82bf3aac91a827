"""The CPU in the GPU's place: `cuda` devices, `torch.cuda`, autocast, Fabric and 16-bit arithmetic.

What is real: every operator, with inputs and results in the precision that the script asks for.
What is not: speed and GPU memory, so `torch.cuda`'s memory counters stay at zero; and a tensor that
a script forgot to move to the GPU is not noticed.
"""

import functools
import inspect
import os
import platform
import time
import warnings
from types import SimpleNamespace

import torch
import torch.distributed as dist
import torch.nn.functional as F
from lightning import Fabric
from lightning.fabric.plugins import MixedPrecision
from lightning.fabric.strategies import FSDPStrategy, ModelParallelStrategy
from torch.distributed.fsdp import _init_utils, fully_sharded_data_parallel
from torch.distributed.fsdp._flat_param import FlatParamHandle
from torch.overrides import TorchFunctionMode

from rehearsal import used

HALF = (torch.float16, torch.bfloat16)
CPU = torch.device("cpu")


def install(gpus: int = 1) -> None:
    """Let scripts find `gpus` GPUs with bfloat16, all of them this CPU. Cannot be undone."""
    used["the GPU"] = "this CPU"
    # threads that wait for each other do so by spinning: on a busy machine, two are not a bit
    # faster than one, but ten times as slow
    torch.set_num_threads(1)
    _replace_cuda_module(gpus)
    _CudaMeansCpu().__enter__()
    _replace_amp()
    _replace_fabric(gpus)
    F.conv2d = _patches_as_matrix_product(F.conv2d)
    for name in ("linear", "conv2d", "scaled_dot_product_attention"):
        setattr(F, name, _accumulate_in_float32(getattr(F, name)))
    for name in ("matmul", "einsum"):
        setattr(torch, name, _accumulate_in_float32(getattr(torch, name)))
    torch.autograd.graph.save_on_cpu = _CopyOfSaved
    # a compiler takes minutes, and not every machine has one
    torch.compiler.set_stance("force_eager")
    # the fused attention of nn.MultiheadAttention would bypass the functions replaced above
    torch.backends.mha.set_fastpath_enabled(False)
    # pinned memory is a GPU's business
    warnings.filterwarnings("ignore", message=".*pin_memory.*")
    warnings.filterwarnings("ignore", message=".*sharding initialization run on CPU.*")


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
    torch.cuda.Event = _Event
    # PyTorch's own code (pinning, CUDA graphs) asks here, and is told the truth
    torch.accelerator.is_available = functools.partial(_answer, False)
    torch.accelerator.current_accelerator = functools.partial(_answer, None)


def _answer(value, *args, **kwargs):
    return value


class _Event:
    """`torch.cuda.Event` for code that runs in order: the time at which it was recorded."""

    def __init__(self, *args, **kwargs) -> None:
        self.time = None

    def record(self, *args) -> None:
        self.time = time.perf_counter()

    def elapsed_time(self, end: "_Event") -> float:
        """Milliseconds from this event to `end`."""
        return 1000 * (end.time - self.time)

    synchronize = wait = query = functools.partial(_answer, True)


class _CudaMeansCpu(TorchFunctionMode):
    """Reads "cuda" as "cpu" wherever a device is handed to PyTorch."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in ("cuda", "pin_memory"):  # methods of a tensor that is where it belongs
            return args[0]
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


def _replace_fabric(gpus: int) -> None:
    """Fabric on the CPU: one process a GPU where the script asks for several, with gloo.

    And with the precision asked for: by itself, Fabric turns 16-mixed on a CPU into bf16-mixed.
    """
    original = Fabric.__init__

    @functools.wraps(original)
    def init(self, *args, **kwargs):
        bound = inspect.signature(original).bind(self, *args, **kwargs)
        arguments = bound.arguments
        if arguments.get("accelerator", "auto") in ("auto", "cuda", "gpu"):
            arguments["accelerator"] = "cpu"
        strategy = arguments.get("strategy", "auto")
        if strategy in ("fsdp", "fsdp_cpu_offload"):
            strategy = FSDPStrategy(cpu_offload=strategy == "fsdp_cpu_offload")
        if isinstance(strategy, FSDPStrategy):
            strategy.__class__ = _FSDPStrategyOnCpu  # Fabric refuses the very class on a CPU
            arguments["strategy"] = strategy
        devices = arguments.get("devices", "auto")
        if isinstance(devices, list):
            arguments["devices"] = len(devices)
        elif devices in ("auto", -1, "-1"):
            arguments["devices"] = 1 if strategy == "auto" else gpus
        sharded = isinstance(strategy, (FSDPStrategy, ModelParallelStrategy))
        if arguments.get("precision") in ("16-mixed", 16, "16") and not sharded:
            del arguments["precision"]
            plugins = arguments.get("plugins") or []
            plugins = list(plugins) if isinstance(plugins, (list, tuple)) else [plugins]
            scaler = torch.amp.GradScaler("cpu")
            arguments["plugins"] = [*plugins, MixedPrecision("16-mixed", "cpu", scaler)]
        original(*bound.args, **bound.kwargs)

    Fabric.__init__ = init
    launch = Fabric.launch

    @functools.wraps(launch)
    def noted(self, *args, **kwargs):
        result = launch(self, *args, **kwargs)
        if dist.is_initialized():
            ranks = f"{dist.get_world_size()} processes on this CPU, joined by {dist.get_backend()}"
            used["several GPUs"] = ranks
        return result

    Fabric.launch = noted
    # FSDP looks for an accelerator, and works without one only if its caller names the CPU
    init_handle = _init_utils._init_device_handle
    fully_sharded_data_parallel._init_device_handle = lambda state, module, ignored, device: (
        init_handle(state, module, ignored, CPU)
    )
    torch.cpu.Stream.synchronize = torch.cpu.synchronize
    prepare = FlatParamHandle.prepare_gradient_for_backward

    @functools.wraps(prepare)
    def prepare_as_on_gpu(handle):
        flat = handle.flat_param
        sharded = flat.grad is not None and flat.grad.size() == flat._local_shard.size()
        if handle._offload_params and sharded:
            flat.grad = None  # it would be on the host, and FSDP adds nothing to such a gradient
        prepare(handle)

    FlatParamHandle.prepare_gradient_for_backward = prepare_as_on_gpu


class _FSDPStrategyOnCpu(FSDPStrategy):
    pass


class _CopyOfSaved(torch.autograd.graph.saved_tensors_hooks):
    """`save_on_cpu` where all is on the CPU: what is saved is a copy, as on the host of a GPU."""

    def __init__(self, pin_memory: bool = False, device_type: str = "cuda") -> None:
        super().__init__(lambda tensor: tensor.clone(), lambda copy: copy)


def _patches_as_matrix_product(conv2d):
    """A convolution whose patches lie side by side, computed as the matrix product that it is.

    On a CPU, that takes a quarter of the time that the general convolution's backward pass takes.
    """

    @functools.wraps(conv2d)
    def wrapped(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
        height, width = weight.shape[2:]
        side_by_side = stride in (height, (height, width)) and height == width
        rows, rest_below = divmod(input.shape[-2], height)
        columns, rest_beside = divmod(input.shape[-1], width)
        plain = padding in (0, (0, 0)) and dilation in (1, (1, 1)) and groups == 1
        if not (side_by_side and plain and input.dim() == 4) or rest_below or rest_beside:
            return conv2d(input, weight, bias, stride, padding, dilation, groups)
        patches = input.reshape(len(input), -1, rows, height, columns, width)
        patches = patches.permute(0, 2, 4, 1, 3, 5).flatten(3)  # [B, rows, columns, C * P * P]
        return torch.nn.functional.linear(patches, weight.flatten(1), bias).permute(0, 3, 1, 2)

    return wrapped


def _accumulate_in_float32(function):
    """A matrix product of 16-bit numbers, computed as tensor cores do.

    They multiply the 16-bit inputs exactly, add in float32 and round the result to 16 bits
    (NVIDIA, "Tensor Core GPU architecture" white papers). Many CPUs have no 16-bit arithmetic, and
    PyTorch's way without it is up to thirty times slower than float32.
    """

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        half = next(arg.dtype for arg in args if isinstance(arg, torch.Tensor))
        if torch.is_autocast_enabled("cpu"):
            half = torch.get_autocast_dtype("cpu")
        if half not in HALF:
            return function(*args, **kwargs)

        def widen(value):
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                return value.to(half).float()
            return value

        with torch.autocast("cpu", enabled=False):
            result = function(
                *(widen(arg) for arg in args), **{key: widen(arg) for key, arg in kwargs.items()}
            )
        return result.to(half)

    return wrapped
