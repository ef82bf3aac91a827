"""What is known of an operator beside the shapes that PyTorch's own functions tell: one registry.

A module of this folder holds all rules of its operators: which kernel runs on a GPU, the shapes of
its results, the memory that it takes while it runs, and its arithmetic where PyTorch's formula
(torch.utils.flop_counter) does not suffice.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.distributed.tensor import DTensor
from torch.utils._pytree import tree_leaves

from vramcast import compat
from vramcast.memory.storages import Storages

HALF = (torch.float16, torch.bfloat16)
FLOAT = 4  # bytes


@dataclass
class Rules:
    """The rules of one operator."""

    # bytes that it takes while it runs and gives back at its end, by its arguments
    buffers: Callable[[tuple], list[int]] | None = None
    # books the results itself, with what is taken and given back between them: by the log of
    # storages, the operator, its arguments and its result
    book: Callable[[Storages, compat.OpOverload, tuple, object], None] | None = None
    # the largest result, where its size depends on numbers; None from it if the size is known
    largest: Callable | None = None
    # the result on sparse tensors, by the operator's arguments, from operators on their parts
    sparse: Callable | None = None
    makes_sparse: bool = False  # also of dense ones
    cublas: bool = False  # takes cuBLAS's workspace
    convolution: bool = False  # its C++ code chooses a library, and so a layout, by the device
    # which part of PyTorch's formula is computed, by its arguments' names
    share: Callable[[dict], float] | None = None


@dataclass
class Exact:
    """A result that the rule for the largest one found to be of this very size."""

    result: object


NONE = Rules()
_rules: dict[compat.OpOverload, Rules] = {}


def register(*operators: compat.OpOverload, **rules: object) -> None:
    """Add these rules to what is known of operators."""
    for operator in operators:
        known = _rules.setdefault(operator, Rules())
        for name, rule in rules.items():
            setattr(known, name, rule)


def of(operator: compat.OpOverload) -> Rules:
    """The rules of an operator."""
    return _rules.get(operator, NONE)


# ------------------------------------------------------------------------------------ kernels

LIBRARY = torch.library.Library("aten", "IMPL")  # its kernels last as long as it does
_kernels: dict[compat.OpOverload, Callable] = {}
substitutes: dict[compat.OpOverload, Callable] = {}  # for the C++ code of composite operators


def put(kernels: dict[str, Callable]) -> None:
    """Use these kernels for tensors on "cuda", by the names "operator" or "operator.overload".

    To PyTorch's C++ code, a tensor that is spread over ranks is on a device of devices.LABELS.
    """
    for name, kernel in kernels.items():
        for key in ("AutogradCUDA", "CUDA"):
            LIBRARY.impl(name, kernel, key, allow_override=True)
        packet, _, overload = name.partition(".")
        operator = getattr(getattr(torch.ops.aten, packet), overload or "default")
        _kernels[operator] = kernel
        spread = _if_spread(kernel, operator)
        LIBRARY.impl(name, spread, "AutogradMeta", allow_override=True)


def parts(operator: compat.OpOverload, on_gpu: bool) -> Callable | None:
    """What calls the operators of which one consists, on "cuda" or not; None if it is one itself.

    PyTorch does so on its way to autograd. Without that, in inference mode, it does not. To its C++
    code, tensors are not on the device that an operator is given (devices.LABELS): `substitutes`.
    """
    if operator in substitutes:
        return substitutes[operator]
    if on_gpu and operator in _kernels:
        return _kernels[operator]
    return functools.partial(unfused, operator) if compat.composite(operator) else None


def _if_spread(kernel: Callable, op: compat.OpOverload) -> Callable:
    """The kernel for tensors that are spread over ranks; others are asked only for their shapes."""

    def run(*args, **kwargs):
        leaves = tree_leaves(args)
        if any(isinstance(leaf, (DTensor, compat.FunctionalTensor)) for leaf in leaves):
            return kernel(*args, **kwargs)
        return unfused(op, *args, **kwargs)

    return run


def shape(name: str, rule: Callable) -> None:
    """Use this rule for the shapes of an operator's results."""
    LIBRARY.impl(name, rule, "Meta", allow_override=True)


def unfused(op: compat.OpOverload, *args, **kwargs):
    """The result of an operator by its own C++ code, as for the CPU.

    (`OpOverload.decompose` would prefer a substitute in Python, if one exists.)
    """
    return compat.decomposed(op, *args, **kwargs)
