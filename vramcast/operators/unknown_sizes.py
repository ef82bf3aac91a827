"""Operators whose result's size depends on unknown numbers: the largest result is assumed.

`nonzero` may find all elements, `unique` as many values, and a mask of truth values may keep every
row. A note names the line, because the script needs less if fewer are found.
"""

import sys
import traceback

import torch

from vramcast import compat
from vramcast.operators.registry import register

aten = torch.ops.aten


def _long(like: torch.Tensor, *shape: int) -> torch.Tensor:
    return torch.empty(shape, dtype=torch.long, device=like.device)


def _nonzero(tensor):
    return _long(tensor, tensor.numel(), tensor.dim())


def _unique(tensor, sorted=True, return_inverse=False, return_counts=False):
    """`unique`: the values, for each element the place of its value, and the counts."""
    inverse = _long(tensor, *tensor.shape) if return_inverse or return_counts else _long(tensor, 0)
    counts = _long(tensor, tensor.numel()) if return_counts else _long(tensor, 0)
    return tensor.new_empty(tensor.numel()), inverse, counts


def _unique_consecutive(tensor, return_inverse=False, return_counts=False, dim=None):
    if dim is not None:
        return _unique_dim(tensor, dim, True, return_inverse, return_counts)
    return _unique(tensor, True, return_inverse, return_counts)


def _unique_dim(tensor, dim, sorted=True, return_inverse=False, return_counts=False):
    size = tensor.shape[dim]
    inverse = _long(tensor, size if return_inverse else 0)
    return tensor.new_empty(tensor.shape), inverse, _long(tensor, size if return_counts else 0)


def _masked_select(tensor, mask):
    shape = torch.broadcast_shapes(tensor.shape, mask.shape)
    return tensor.new_empty(shape.numel())


def _index(tensor, indices):
    """Indexing with masks among the indices; None without a mask, since the size is known then."""
    if not any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in indices):
        return None
    places = []
    for index in indices:
        if index is not None and index.dtype in (torch.bool, torch.uint8):
            places += [_long(tensor, index.numel()) for _ in range(index.dim())]
        else:
            places.append(index)
    return aten.index.Tensor(tensor, places)


def _bincount(tensor, weights=None, minlength=0):
    """`bincount` with `minlength` results, the number of classes; None if that is not given."""
    kind = torch.long if weights is None else weights.dtype
    return torch.empty(minlength, dtype=kind, device=tensor.device) if minlength else None


def _nms(boxes, scores, threshold):
    """`nms`: the boxes that are kept, perhaps all."""
    return _long(boxes, len(boxes))


for operator, rule in {
    aten.bincount.default: _bincount,
    aten.nonzero.default: _nonzero,
    aten._unique2.default: _unique,
    aten.unique_dim.default: _unique_dim,
    aten.unique_consecutive.default: _unique_consecutive,
    aten.masked_select.default: _masked_select,
    aten.index.Tensor: _index,
}.items():
    register(operator, largest=rule)


def add_torchvision() -> None:
    """Add the rules of torchvision's operators, which exist once it is imported."""
    register(torch.ops.torchvision.nms.default, largest=_nms)


def note(func: compat.OpOverload) -> str:
    """A note on what is assumed, and in which line of the script."""
    if func is aten.bincount.default:
        return "bincount is taken to meet no number beyond its minlength"
    name = "a mask" if func in (aten.index.Tensor, aten.masked_select.default) else func.name()
    name = name.rpartition("::")[2].removeprefix("_").removesuffix("2")
    return f"{place()}{name} is taken to find all elements, the most that it can"


def place() -> str:
    """The line of the script that is running, as a note begins: "line 3: "; or nothing."""
    script = getattr(sys.modules["__main__"], "__file__", None)
    lines = [
        line
        for frame, line in traceback.walk_stack(sys._getframe())
        if frame.f_code.co_filename == script
    ]
    return f"line {lines[0]}: " if lines else ""
