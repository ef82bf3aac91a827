"""Operators whose result's size depends on unknown numbers: the largest result is assumed.

`nonzero` may find all elements, `unique` as many values, and a mask of truth values may keep every
row. A note names the line, because the script needs less if fewer are found.
"""

import torch

from vramcast import compat
from vramcast.operators.ranges import listed, numbers, of
from vramcast.operators.registry import Exact, put, register, unfused

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
    places, exact = [], True
    for index in indices:
        if index is not None and index.dtype in (torch.bool, torch.uint8):
            known = numbers(index)
            exact &= known is not None
            many = index.numel()
            if known is not None:
                with compat.no_dispatch():
                    many = int(known.count_nonzero())
            places += [_long(tensor, many) for _ in range(index.dim())]
        else:
            places.append(index)
    result = aten.index.Tensor(tensor, places)
    return Exact(result) if exact else result


def _masked_put(tensor, indices, values, accumulate=False):
    """Writing where a mask says: one number each, or as many as there are places, at most all."""
    masks = [i for i in indices if i is not None and i.dtype in (torch.bool, torch.uint8)]
    return Exact(tensor) if masks else None


def _repeat_interleave(repeats, output_size=None):
    """The places of what is repeated, as often as `repeats` says; by its range if at all."""
    known, ends = listed(repeats), of(repeats)
    if output_size is not None or known is not None:
        many = output_size if known is None else sum(known)
        return Exact(_long(repeats, many))
    return None if ends is None else _long(repeats, len(repeats) * ends[1])


def _bincount(tensor, weights=None, minlength=0):
    """`bincount` with `minlength` results, the number of classes, or by its numbers' range."""
    kind = torch.long if weights is None else weights.dtype
    ends = of(tensor)
    many = minlength if ends is None else max(minlength, ends[1] + 1)
    return torch.empty(many, dtype=kind, device=tensor.device) if many else None


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
    aten.index_put_.default: _masked_put,
    aten._index_put_impl_.default: _masked_put,
    aten.repeat_interleave.Tensor: _repeat_interleave,
}.items():
    register(operator, largest=rule)


def _one_hot(tensor, num_classes=-1):
    """`one_hot` without a number of classes: one more than the largest number that there may be."""
    if num_classes == -1:
        ends = of(tensor)
        if ends is None:
            raise compat.DynamicOutputShapeException("one_hot")
        num_classes = ends[1] + 1
        tensor.fake_mode.note(f"one_hot is taken to meet a number of {ends[1]}")
    return unfused(aten.one_hot.default, tensor, num_classes)


def install() -> None:
    """Let composite operators whose size depends on numbers have the largest one."""
    put({"one_hot": _one_hot})


def add_torchvision() -> None:
    """Add the rules of torchvision's operators, which exist once it is imported."""
    register(torch.ops.torchvision.nms.default, largest=_nms)


TOLD = {
    aten.bincount.default: "bincount is taken to meet no number beyond its minlength or range",
    aten.repeat_interleave.Tensor: "repeat_interleave is taken to repeat each as often as it can",
    aten._pack_padded_sequence.default: "sequences that are packed are taken to have equal lengths",
    aten._ctc_loss.Tensor: "ctc_loss is taken to meet one target that is as long as all",
}


def note(func: compat.OpOverload) -> str:
    """A note on what is assumed."""
    name = "a mask" if func in (aten.index.Tensor, aten.masked_select.default) else func.name()
    name = name.rpartition("::")[2].removeprefix("_").removesuffix("2")
    return TOLD.get(func) or f"{name} is taken to find all elements, the most that it can"
