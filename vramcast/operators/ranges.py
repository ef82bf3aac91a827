"""What is known of a tensor's numbers: all of them, or the range of whole numbers.

All: `constant` holds them, of small tensors on the host. The range: an index that `argmax` finds is
below the size.

A tensor keeps its range in its `__dict__`, with the version for which it is true. Where such a
number is read and becomes a size, its upper end is taken. A range whose ends are among the numbers,
as that of known labels which are copied to a GPU, is `exact`: their `max()` is known. Known numbers
that are a part of more have the range of all of these: those of a data set's samples, say.
"""

import math
from collections.abc import Callable

import torch

from vramcast import compat
from vramcast.compat import FakeTensor, OpOverload

WIDER = {torch.uint16: torch.int32, torch.uint32: torch.int64}  # which PyTorch can compare
TRUTH = (0, 1)
FEW = 2**20  # known numbers among which the least and the largest are looked for
Range = tuple[int, int]


def numbers(tensor: torch.Tensor) -> torch.Tensor | None:
    """A real tensor with the numbers of a tensor; None if they are not known."""
    tensor = getattr(tensor, "_local_tensor", tensor)  # of one that is spread over ranks
    return tensor.constant if isinstance(tensor, FakeTensor) else tensor


def listed(tensor: torch.Tensor) -> list | None:
    """The numbers of a tensor as `tolist` gives them; None if they are not known."""
    known = numbers(tensor)
    if known is None:
        return None
    with compat.no_dispatch():
        return known.tolist()


def keep_numbers(tensor: FakeTensor, constant: torch.Tensor) -> None:
    """From now on, these are the numbers of a tensor, until something unknown is written to it."""
    tensor.constant = constant
    tensor.fake_mode.fake_tensor_converter.add_constant_storage_mapping(tensor)


def drop(tensor: torch.Tensor) -> None:
    """The numbers of a tensor are not known any more, nor are those of its views."""
    if isinstance(tensor, FakeTensor) and tensor.constant is not None:
        converter = tensor.fake_mode.fake_tensor_converter
        converter.invalidate_constant_aliases(tensor.constant)


def of(tensor: torch.Tensor) -> Range | None:
    """The range of a tensor's whole numbers, both ends included; None if that is not known."""
    if tensor.dtype == torch.bool:
        return TRUTH
    found = kept(tensor)
    if found is not None:
        return found[0]
    known = numbers(tensor)
    return None if known is None else _ends(known)


def _ends(known: torch.Tensor) -> Range | None:
    """The least and the largest of a real tensor's numbers, found once; None if they are many."""
    if known.is_floating_point() or known.is_complex() or not 0 < known.numel() <= FEW:
        return None
    if known.dtype == torch.uint64:  # PyTorch compares none of these, and no type holds them all
        return None
    version = _version(known)
    found = vars(known).get("ends")
    if found is None or version is None or found[0] != version:
        with compat.no_dispatch():
            whole = known.to(WIDER[known.dtype]) if known.dtype in WIDER else known
            found = version, (int(whole.min()), int(whole.max()))
        vars(known)["ends"] = found
    return found[1]


def _version(tensor: torch.Tensor) -> int | None:
    """How often a tensor was written to; None if it does not count that, in inference mode."""
    return None if tensor.is_inference() else tensor._version


def exact(tensor: torch.Tensor) -> bool:
    """Whether both ends of a tensor's range are known to be among its numbers."""
    found = kept(tensor)
    return numbers(tensor) is not None if found is None else found[1]


def kept(tensor: torch.Tensor) -> tuple[Range, bool] | None:
    """The range that was kept for a tensor, and whether it is exact; None if there is none."""
    found = vars(tensor).get("range_of_numbers")
    if found is None or found[0] != _version(tensor):
        return None
    return found[1:]


def keep(tensor: torch.Tensor, ends: Range, exact: bool = False) -> None:
    """Remember the range of a tensor's numbers, until something is written to it."""
    vars(tensor)["range_of_numbers"] = _version(tensor), ends, exact


def rule(func: OpOverload) -> Callable | None:
    """What gives the ranges of an operator's results, by its arguments and results."""
    return RULES.get(func._schema.name.removeprefix("aten::"))


def _same(args: tuple, result) -> Range | None:
    return of(args[0])


def _joined(args: tuple, result) -> Range | None:
    """Of several tensors put into one."""
    ranges = [of(one) for one in args[0] if isinstance(one, torch.Tensor)]
    return None if None in ranges else (min(one[0] for one in ranges), max(o[1] for o in ranges))


def _either(args: tuple, result) -> Range | None:
    return _joined((args[1:3],), result) if len(args) > 2 else None


def _place(args: tuple, result) -> Range:
    """Places in one dimension, or in the tensor as if it had one."""
    dim = args[1] if len(args) > 1 and isinstance(args[1], int) else None
    size = args[0].numel() if dim is None else args[0].shape[dim] if args[0].dim() else 1
    return 0, max(size - 1, 0)


def _last(args: tuple, result) -> Range:
    return 0, args[0].shape[-1] - 1


def _element(args: tuple, result) -> Range:
    return 0, max(args[0].numel() - 1, 0)


def _number_of(args: tuple, result) -> Range:
    return 0, args[0].numel()


def _chosen(args: tuple, result) -> Range:
    """Of `topk`: self, k, dim."""
    dim = args[2] if len(args) > 2 else -1
    return 0, args[0].shape[dim] - 1 if args[0].dim() else 0


def _sorted(args: tuple, result) -> Range:
    dim = next((one for one in args[1:] if type(one) is int), -1)
    return 0, args[0].shape[dim] - 1 if args[0].dim() else 0


def _random(args: tuple, result) -> Range:
    ends = [one for one in args if isinstance(one, int)]
    return (0, ends[0] - 1) if len(ends) < 2 else (ends[0], ends[1] - 1)


def _up_to(args: tuple, result) -> Range | None:
    ends = [one for one in args if isinstance(one, int)]
    if not ends:
        return None
    return (0, max(ends[0] - 1, 0)) if len(ends) == 1 else (min(ends[:2]), max(ends[:2]))


def _full(args: tuple, result) -> Range | None:
    value = args[1]
    return (value, value) if isinstance(value, int) else None


def _sum(args: tuple, result) -> Range | None:
    ends = of(args[0])
    many = args[0].numel() // max(result.numel(), 1)
    return None if ends is None else (min(ends[0] * many, 0), max(ends[1] * many, 0))


def _cumulative(args: tuple, result) -> Range | None:
    ends, dim = of(args[0]), args[1]
    many = args[0].shape[dim] if args[0].dim() else 1
    return None if ends is None else (min(ends[0] * many, 0), max(ends[1] * many, 0))


def _counted(args: tuple, result) -> Range:
    return 0, args[0].numel() // max(result.numel(), 1)


def _arithmetic(name: str) -> Callable:
    def rule(args: tuple, result) -> Range | None:
        both = [of(one) if isinstance(one, torch.Tensor) else _number(one) for one in args[:2]]
        if None in both or len(both) < 2:
            return None
        (a, b), (c, d) = both
        if name == "add":
            return a + c, b + d
        if name == "sub":
            return a - d, b - c
        products = a * c, a * d, b * c, b * d
        return min(products), max(products)

    return rule


def _number(number) -> Range | None:
    return (number, number) if isinstance(number, int) else None


def _clamped(args: tuple, result) -> Range | None:
    given = args[1:3] + (None,) * (3 - len(args))
    ends = of(args[0]) or (-math.inf, math.inf)
    low = ends[0] if given[0] is None else max(ends[0], given[0])
    high = ends[1] if given[1] is None else min(ends[1], given[1])
    whole = all(isinstance(one, int) for one in (low, high))
    return (low, max(low, high)) if whole else None


RULES = {
    **dict.fromkeys((
        "_to_copy", "clone", "detach", "alias", "view", "_unsafe_view", "reshape", "slice",
        "select", "index", "index_select", "gather", "unsqueeze", "squeeze", "expand", "permute",
        "transpose", "t", "max", "min", "amax", "amin", "masked_select", "unbind", "split",
        "repeat", "flip", "roll", "view_as", "take", "sort", "topk", "cummax", "unfold", "diagonal",
        "split_with_sizes", "_unique2", "unique_consecutive", "unique_dim", "lift_fresh",
    ), _same),
    **dict.fromkeys(("cat", "stack"), _joined),
    **dict.fromkeys(("argmax", "argmin"), _place),
    "argsort": _sorted, "multinomial": _last, "randint": _random, "randperm": _up_to,
    "arange": _up_to, "full": _full, "sum": _sum, "cumsum": _cumulative,
    "repeat_interleave": _element, "nonzero": _element, "count_nonzero": _counted,
    "where": _either, "clamp": _clamped,
    "zeros": lambda args, result: (0, 0), "ones": lambda args, result: (1, 1),
    "zeros_like": lambda args, result: (0, 0), "ones_like": lambda args, result: (1, 1),
    **{name: _arithmetic(name) for name in ("add", "sub", "mul")},
}  # fmt: skip
# what keep all numbers of a tensor, and what choose the last or the first of all
KEEP = {
    "_to_copy", "clone", "detach", "alias", "view", "_unsafe_view", "reshape", "unsqueeze",
    "squeeze", "expand", "permute", "transpose", "t", "repeat", "flip", "roll", "view_as", "sort",
    "lift_fresh",
}  # fmt: skip
CHOOSE = {"max": 1, "amax": 1, "min": 0, "amin": 0}
ATTAINED = KEEP | CHOOSE.keys()
PARTS = {
    "select", "slice", "index", "index_select", "gather", "take", "masked_select", "unbind",
    "split", "split_with_sizes",
}  # fmt: skip
# the second result: places of the first one's numbers
PLACES = {"max": _place, "min": _place, "topk": _chosen, "sort": _sorted, "cummax": _place}
PLACES |= dict.fromkeys(("_unique2", "unique_consecutive", "unique_dim"), _number_of)


def _of_more(name: str, args: tuple) -> bool:
    """Whether an operator's result is a part of its tensor, or of that which its tensors are of."""
    if name in PARTS:
        return True
    tensors = args[0] if args and isinstance(args[0], (list, tuple)) else args[:1]
    kinds = [isinstance(one, torch.Tensor) and kept(one) is not None for one in tensors]
    return bool(kinds) and all(kinds)


def track(ends: Callable, func: OpOverload, args: tuple, kwargs: dict, result) -> None:
    """Keep the ranges of an operator's results."""
    if "alpha" in kwargs:
        return
    made = result if isinstance(result, (tuple, list)) else (result,)
    name = func._schema.name.removeprefix("aten::")
    places = PLACES.get(name)
    for number, tensor in enumerate(made):
        if not isinstance(tensor, torch.Tensor) or tensor.dtype == torch.bool:
            continue
        known = isinstance(tensor, FakeTensor) and tensor.constant is not None
        if (
            (known and not _of_more(name, args))
            or tensor.dtype.is_floating_point
            or tensor.dtype.is_complex
        ):
            continue
        found = places(args, result) if places and number else ends(args, result)
        attained = name in ATTAINED and not number and exact(args[0])
        if name in CHOOSE:
            attained = attained and tensor.numel() == 1
            found = (found[CHOOSE[name]],) * 2 if attained and found else found
        if found is not None:
            keep(tensor, found, attained)
