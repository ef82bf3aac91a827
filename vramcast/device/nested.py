"""Jagged nested tensors, whose lengths are numbers: those that PyTorch knows from shapes are known.

A tensor made of a list, or with `max_seqlen`, goes through layers, attention and padding as it is
(torch/nested/_internal). Where lengths stand in a tensor alone, what needs them is refused.
"""

import functools
from types import ModuleType

import torch
from torch.nn.attention import SDPBackend
from torch.utils._pytree import tree_leaves

from vramcast import compat
from vramcast.device.devices import GPUS, LABELS
from vramcast.operators.registry import HALF
from vramcast.when_imported import when_imported

_INTERNAL = "torch.nested._internal"


def install(capability: tuple[int, int]) -> None:
    """Let nested tensors be made of tensors without data, on a GPU of this compute capability."""
    when_imported(f"{_INTERNAL}.nested_tensor", _make)
    when_imported(f"{_INTERNAL}.sdpa", functools.partial(_attend, capability))


def among(values: tuple) -> bool:
    """Whether a nested tensor is among an operator's arguments."""
    return any(getattr(one, "layout", None) is torch.jagged for one in tree_leaves(values))


def _make(module: ModuleType) -> None:
    def nested_int(offsets, *, coeff=1):
        """A size that stands for the lengths, one for each tensor of them, as with numbers."""
        if offsets.nested_int_memo is None:
            offsets.nested_int_memo = compat.nested_int(module)
        known = getattr(offsets, "known_lengths", None)
        offsets.diff = functools.partial(_lengths, offsets, known)
        return offsets.nested_int_memo * coeff if coeff != 1 else offsets.nested_int_memo

    compat.FakeTensor.get_nested_int = nested_int
    from_list = module.jagged_from_list

    def jagged_from_list(tensors, offsets, *args, **kwargs):
        made, offsets = from_list(tensors, offsets, *args, **kwargs)
        dim = made._ragged_idx - 1
        offsets.known_lengths = [tensor.shape[dim] for tensor in tensors]
        offsets.get_nested_int()
        return made, offsets

    nested, make = module.NestedTensor, torch.Tensor._make_wrapper_subclass

    def make_labelled(kind, *args, **kwargs):
        """For C++ code, a nested tensor is where all tensors without data are."""
        if kind is nested:
            args = [_label(one) for one in args]
        return make(kind, *args, **kwargs)

    torch.Tensor._make_wrapper_subclass = make_labelled
    for name in ("device", "is_cuda", "is_meta"):
        setattr(nested, name, property(lambda one, name=name: getattr(one._values, name)))
    module.jagged_from_list = jagged_from_list
    module._store_val_in_tensor = lambda length: torch.empty(length, 0)
    module._get_sdpa_extreme_seqlen = _unknown


def _label(one: object) -> object:
    """A GPU's label in its place; anything else is itself."""
    if isinstance(one, torch.device) and one.type == "cuda":
        return LABELS[GPUS[one.index or 0]]
    return one


def _lengths(offsets: torch.Tensor, known: list[int] | None) -> torch.Tensor:
    """`offsets.diff()`, whose numbers may be asked for."""
    lengths = torch.diff(offsets)
    lengths.tolist = (lambda: known) if known else _unknown
    return lengths


def _unknown(*args: object) -> None:
    raise compat.DynamicOutputShapeException("the lengths in a nested tensor")


def _attend(capability: tuple[int, int], module: ModuleType) -> None:
    def choose(query, key, value, mask, dropout, causal, gqa):
        """`_select_sdp_backend`: the first fused kernel that takes these tensors, or the plain one.

        cuDNN's comes last there.
        """
        shared = query.size(1) != key.size(1)
        width, half = query.shape[-1], query.dtype in HALF
        fits = mask is None and not shared and width == key.shape[-1] == value.shape[-1]
        if (
            torch.backends.cuda.flash_sdp_enabled() and fits and half
            and capability >= (8, 0) and width <= 256
        ):  # fmt: skip
            return SDPBackend.FLASH_ATTENTION
        aligned = width % (8 if half else 4) == 0 or capability < (7, 0)
        if (
            torch.backends.cuda.mem_efficient_sdp_enabled() and fits and aligned
            and (half or query.dtype == torch.float32)
            and (query.dtype != torch.bfloat16 or capability >= (8, 0))
        ):  # fmt: skip
            return SDPBackend.EFFICIENT_ATTENTION
        return SDPBackend.MATH

    module._select_sdp_backend = choose
