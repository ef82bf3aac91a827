"""Lightning Fabric and FSDP on the CPU."""

import functools
import inspect

import torch
import torch.distributed as dist
from lightning import Fabric
from lightning.fabric.plugins import MixedPrecision
from lightning.fabric.strategies import FSDPStrategy, ModelParallelStrategy
from torch.distributed.fsdp import _init_utils, fully_sharded_data_parallel
from torch.distributed.fsdp._flat_param import FlatParamHandle

from rehearsal import used

CPU = torch.device("cpu")


def install(gpus: int) -> None:
    """Let Fabric run on the CPU: a process for each GPU that the script asks for, over gloo.

    The precision stays the one asked for; on a CPU, Fabric itself turns 16-mixed into bf16-mixed.
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
