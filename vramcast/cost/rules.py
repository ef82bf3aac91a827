"""How each operator is counted: arithmetic, kernels, and bytes over the links."""

from collections import Counter
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from vramcast import compat
from vramcast.operators import registry

compat.count_shared_heads()

aten = torch.ops.aten
Rule = Callable[["Counts", tuple, dict, object], None]
# Operators that run no kernel though they are neither views nor change a tensor's shape in place.
NO_KERNEL = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}
NO_KERNEL |= {"_unsafe_view", "_local_scalar_dense"}
COPIES = {aten._to_copy.default, aten.copy_.default, aten._foreach_copy_.default}
# How often a ring of n ranks sends (n - 1) / n of the whole tensor from each to the next: NVIDIA's
# nccl-tests, doc/PERFORMANCE.md. In a broadcast, all but the last rank send the whole, which is as
# much on average. Other collectives are not counted.
RING = {"allgather": 1, "reducescatter": 1, "allreduce": 2, "broadcast": 1}


class Counts:
    """The work from one optimizer step to the next."""

    def __init__(self) -> None:
        self.operations: Counter[str] = Counter()  # in floating point, by precision
        self.convolved = 0.0  # of these, by convolutions
        self.kernels = 0
        self.to_gpu = self.to_host = self.between = 0  # bytes
        self.samples = 0
        self.epoch = 0  # samples of this GPU in one epoch


def rule(func) -> Rule | None:
    """The rule by which an operator is counted; None if it is not counted.

    Every operator on the GPU that computes counts as one kernel: views, mere allocations and
    copies over a link do not. An operator may launch several kernels, so this is a lower bound.
    """
    if func.namespace in ("c10d", "_c10d_functional"):
        name = func._opname.replace("_", "")
        times = next((times for key, times in RING.items() if name.startswith(key)), 0)
        return _collective(func, times) if times else None
    if func in COPIES:
        return _copy(func)
    if func.namespace in ("prim", "prims", "profiler") or func._opname in NO_KERNEL:
        return None
    if func.is_view or torch.Tag.inplace_view in func.tags:
        return None
    formula = flop_registry.get(func.overloadpacket)
    return _arithmetic(func, formula) if formula else _kernel


def _kernel(counts: Counts, args: tuple, kwargs: dict, result: object) -> None:
    counts.kernels += _on_gpu(result) or _on_gpu(args)


def _on_gpu(value: object) -> bool:
    while isinstance(value, (list, tuple)) and value:
        value = value[0]
    return isinstance(value, Tensor) and value.device.type == "cuda"


def _arithmetic(func, formula: Callable[..., int]) -> Rule:
    """Matrix products, convolutions, attention: PyTorch's formulas (torch.utils.flop_counter)."""
    names = [argument.name for argument in func._schema.arguments]
    known_rules = registry.of(func)
    convolution, share = known_rules.convolution, known_rules.share
    known: dict[tuple, float] = {}  # operations by shapes: a formula takes as long as an operator

    def operations(args: tuple, kwargs: dict, result: object) -> float:
        number = formula(*args, **kwargs, out_val=result)
        return number * share(dict(zip(names, args, strict=False))) if share else number

    def count(counts: Counts, args: tuple, kwargs: dict, result: object) -> None:
        if not _on_gpu(args[1]):
            return
        key = tuple(
            [
                one.shape if isinstance(one, Tensor) else tuple(one) if type(one) is list else one
                for one in args
            ]
        )
        number = known.get(key)
        if number is None:
            number = known[key] = operations(args, kwargs, result)
        counts.operations[_precision(args[1].dtype, convolution)] += number
        counts.convolved += number * convolution
        counts.kernels += 1

    return count


def _precision(dtype: torch.dtype, convolution: bool) -> str:
    """The precision that a GPU multiplies in: TF32 for float32, if PyTorch is allowed to use it."""
    if dtype == torch.float32:
        backend = torch.backends.cudnn.conv if convolution else torch.backends.cuda.matmul
        if backend.fp32_precision == "tf32":
            return "tf32"
    return str(dtype).removeprefix("torch.")


def _copy(func) -> Rule:
    """Count a copy: within the GPU as a kernel, from or to the host as bytes over the link.

    If the data types differ, the bytes are those of the GPU's type for a copy that the CPU waits
    for, else of the host's type (`copy_kernel_cuda` in aten/src/ATen/native/cuda/Copy.cu).
    """
    place = [argument.name for argument in func._schema.arguments].index("non_blocking")

    def count(counts: Counts, args: tuple, kwargs: dict, result: object) -> None:
        pair = (result, args[0]) if func is aten._to_copy.default else args[:2]
        if not isinstance(pair[1], (Tensor, list, tuple)):  # `copy_` of a number
            counts.kernels += _on_gpu(pair[0])
            return
        targets, sources = ([one] if isinstance(one, Tensor) else one for one in pair)
        later = args[place] if len(args) > place else kwargs.get("non_blocking", False)
        if all(_on_gpu(one) for one in (*targets, *sources)):
            counts.kernels += 1
            if targets[0].device != sources[0].device:
                counts.between += _bytes(targets)
            return
        for target, source in zip(targets, sources, strict=True):
            to_gpu = _on_gpu(target)
            if to_gpu == _on_gpu(source):
                continue
            sent = source if to_gpu == bool(later) else target
            size = target.numel() * sent.dtype.itemsize
            if to_gpu:
                counts.to_gpu += size
            else:
                counts.to_host += size

    return count


def _collective(func, times: int) -> Rule:
    """Count a collective: the bytes that each rank of a ring sends."""
    names = [argument.name for argument in func._schema.arguments]
    place = names.index("process_group" if "process_group" in names else "group_name")

    def count(counts: Counts, args: tuple, kwargs: dict, result: object) -> None:
        if not _on_gpu(args):
            return
        group = args[place]
        if isinstance(group, str):
            group = compat.resolve_group(group)
        elif isinstance(group, torch.ScriptObject):
            group = dist.ProcessGroup.unbox(group)
        ranks = group.size()
        # the whole tensor is what a gather returns, and what a scatter is given
        whole = max(map(_bytes, (*args, result)))
        counts.between += times * whole * (ranks - 1) // ranks

    return count


def _bytes(value: object) -> int:
    return sum(
        one.numel() * one.dtype.itemsize for one in tree_leaves(value) if isinstance(one, Tensor)
    )
