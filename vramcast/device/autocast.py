"""Autocast's casts on "cuda"."""

import re
from pathlib import Path

import torch
from torch.utils._pytree import tree_leaves, tree_map_only

from vramcast import compat
from vramcast.operators.registry import HALF, LIBRARY

aten = torch.ops.aten
FLOATS = (*HALF, torch.float32)  # what it casts


def autocast_lists() -> dict[str, list[tuple[str, str]]]:
    """The operators that autocast handles, by rule, read from the installed PyTorch's header."""
    header = Path(torch.__file__).parent / "include" / "ATen" / "autocast_mode.h"
    lists = {}
    for rule in ("LOWER_PRECISION_FP", "FP32", "FP32_SET_OPT_DTYPE", "PROMOTE"):
        macro = re.search(
            rf"#define AT_FORALL_{rule}\(_\)((?:.*\\\n)+.*\n)", header.read_text()
        ).group(1)
        lists[rule] = re.findall(r"_\((\w+)(?:, (\w+))?\)", macro)
    return lists


def install() -> None:
    """Do autocast's casts for "cuda" here, because PyTorch's C++ code does not see that device.

    The lists of operators are the same. As in PyTorch, a float32 parameter is cast once, and the
    result is kept until the outermost autocast ends.
    """
    cache: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
    clear = torch.clear_autocast_cache

    def clear_both():
        cache.clear()
        clear()

    torch.clear_autocast_cache = clear_both

    def cast(tensor, dtype):
        if not (tensor.is_cuda and tensor.is_floating_point()) or tensor.dtype == torch.float64:
            return tensor
        if tensor.dtype == dtype:
            return tensor
        once = (
            tensor.dtype == torch.float32 and dtype in HALF and tensor.requires_grad
            and tensor.is_leaf and tensor._base is None and torch.is_autocast_cache_enabled()
        )  # fmt: skip
        if not once:
            return tensor.to(dtype)
        if id(tensor) not in cache:
            cache[id(tensor)] = tensor, tensor.to(dtype)
        return cache[id(tensor)][1]

    def wider(tensors):
        kinds = {t.dtype for t in tensors if t.is_cuda and t.is_floating_point()}
        return torch.float32 if torch.float32 in kinds else torch.get_autocast_dtype("cuda")

    def kernel(op, rule):
        names = [argument.name for argument in op._schema.arguments]

        def run(*args, **kwargs):
            with compat.below_autocast():
                if rule == "FP32_SET_OPT_DTYPE":  # the operator itself turns it into float32
                    given = dict(zip(names, args, strict=False)) | kwargs
                    eligible = given[names[0]].is_cuda and given[names[0]].dtype in FLOATS
                    if eligible and given.get("dtype") is None:
                        given["dtype"] = torch.float32
                    return op(**given)
                leaves = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
                dtype = torch.float32
                if rule == "LOWER_PRECISION_FP":
                    dtype = torch.get_autocast_dtype("cuda")
                elif rule == "PROMOTE":
                    dtype = wider(leaves)
                args, kwargs = tree_map_only(
                    torch.Tensor, lambda tensor: cast(tensor, dtype), (args, kwargs)
                )
                return op(*args, **kwargs)

        return run

    for rule, names in autocast_lists().items():
        for name, overload in names:
            packet = getattr(aten, name, None)
            op = getattr(packet, overload or "default", None) if packet else None
            if op is not None:
                LIBRARY.impl(op, kernel(op, rule), "AutocastCUDA", allow_override=True)
    compat.autocast_everywhere()
