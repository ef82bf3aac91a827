"""What a script reads from tensors: what is known, else 0, and False for a truth value.

The exceptions are `isfinite`, and `all` of it: True, since 0 is finite. And what is asserted, or
checked by `torch.distributions` of parameters and samples: True. A script divides by 1 in the place
of such a 0, with a note, and finds such a metric once better than the best one before.
"""

import ast
import builtins
import functools
import linecache
import operator
import sys
from collections.abc import Callable

import torch
from torch.utils._pytree import tree_leaves

from vramcast import compat
from vramcast.compat import FakeTensor
from vramcast.compat import owner as owner_of
from vramcast.device.unknown import SIZED, Unknown, unknown
from vramcast.loops import marks
from vramcast.operators import ranges

DTYPES = {bool: torch.bool, int: torch.int64}  # of what is no tensor; else the default


def number(tensor: torch.Tensor, value: int = 0):
    """What is read from a tensor of one number: `value` if that is not known."""
    constant = ranges.numbers(tensor)
    if constant is not None:
        with compat.no_dispatch():
            return constant.item()
    Unknown.guessed = True
    if tensor.dtype == torch.bool:
        return getattr(tensor, "known_true", False) or _asserted()
    value = getattr(tensor, "known_number", value)
    if tensor.dtype.is_floating_point or tensor.dtype.is_complex:
        return float(value)
    if hasattr(tensor, "known_number"):
        return value
    return unknown(value, *(ranges.of(tensor) or (None, None)))


def divisor(value: object) -> object:
    """What a script divides by (marks.py): as it is, but at least 1 for a number that is not known.

    By a whole number the quotient is as large as it may be, for sizes; by a fraction it may be
    larger, as the note says. Whether a 0 comes from such a number cannot be seen: it is taken to,
    once one was read.
    """
    if type(value) not in (int, float, Unknown) or value != 0 or not Unknown.guessed:
        return value
    larger = "; a size that comes of it may be larger" if type(value) is float else ""
    SIZED.note(f"in the place of a divisor that is not known here: 1{larger}")
    if type(value) is Unknown:
        return unknown(1, 1, None if value.high is None else max(value.high, 1))
    return type(value)(1)


def _better(compare: Callable) -> Callable:
    """A comparison (marks.py) that is once true in each place, of two metrics that are not known.

    As of a metric and the best one so far, by which a script keeps its best model. One of them is
    0.0, so that counts are compared as they are.
    """
    seen = set()

    def better(one: object, other: object, here: str) -> object:
        found = compare(one, other)
        if found is not False or not Unknown.guessed or {type(one), type(other)} - {int, float}:
            return found
        if one != 0 or other != 0 or type(one) is type(other) is int or here in seen:
            return found
        seen.add(here)
        return True

    return better


def _asserted() -> bool:
    """Whether a truth value is read by an `assert` that holds if it is true."""
    frame = sys._getframe(1)
    while frame and frame.f_globals.get("__name__", "").partition(".")[0] in ("torch", "vramcast"):
        frame = frame.f_back
    return frame is not None and frame.f_lineno in _assertions(frame.f_code.co_filename)


@functools.cache
def _assertions(file: str) -> set[int]:
    """The lines of all assertions in a file that negate nothing."""
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except (SyntaxError, ValueError):
        return set()
    tests = [node.test for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    return {
        line
        for test in tests
        if not any(isinstance(node, ast.Not) for node in ast.walk(test))
        for line in range(test.lineno, test.end_lineno + 1)
    }


def _nested(tensor: torch.Tensor, shape: torch.Size):
    """The numbers of a tensor of this shape, as `tolist` gives them."""
    if not shape:
        return number(tensor)
    return [_nested(tensor, shape[1:]) for _ in range(shape[0])]


def _real(read: Callable) -> Callable:
    """A function that makes a tensor of a file: its numbers are known, as those of `from_numpy`."""

    @functools.wraps(read)
    def known(*args, **kwargs):
        with compat.no_dispatch():
            real = read(*args, **kwargs)
        return torch.ops.aten.lift_fresh.default(real)

    return known


def install() -> None:
    """Let tensors without numbers be printed and handed to NumPy, and scripts divide by them."""
    setattr(builtins, marks.DIVISOR, divisor)
    setattr(builtins, marks.MORE, _better(operator.gt))
    setattr(builtins, marks.LESS, _better(operator.lt))

    def zeros(tensor):
        import numpy as np  # which PyTorch does without

        if tensor.constant is not None:  # what the script wrote itself, as torch.tensor([1, 2])
            with compat.no_dispatch():
                return tensor.constant.numpy()
        Unknown.guessed = True
        kind = torch.float32 if tensor.dtype == torch.bfloat16 else tensor.dtype
        return np.zeros(tuple(tensor.shape), str(kind).removeprefix("torch."))

    FakeTensor.__format__ = lambda tensor, spec: (
        format(number(tensor), spec) if tensor.dim() == 0 else repr(tensor)
    )
    FakeTensor.tolist = lambda tensor: (
        _nested(tensor, tensor.shape) if tensor.constant is None else ranges.listed(tensor)
    )
    FakeTensor.numpy = lambda tensor, **_: zeros(tensor)
    torch.from_file = _real(torch.from_file)
    item = torch.Tensor.item

    def tracked(tensor):
        lost = Unknown.lost
        value = item(tensor)  # which waits for the GPU
        if type(value) is not int or tensor.constant is not None:
            return value
        Unknown.lost = lost  # since the number remembers
        return unknown(value, *(ranges.of(tensor) or (None, None)))

    FakeTensor.item = tracked
    torch.tensor, torch.as_tensor = _of_list(torch.tensor, 0), _of_list(torch.as_tensor, 0)
    torch.tensor = _pinned(torch.tensor)
    torch.Tensor.new_tensor = _of_list(torch.Tensor.new_tensor, 1)
    torch.equal = torch.Tensor.equal = _equal
    FakeTensor.__array__ = lambda tensor, dtype=None, **_: zeros(tensor)
    for owner in (torch, torch.Tensor):
        for name in ("isfinite", "all"):
            setattr(owner, name, _of_finite(getattr(owner, name), name == "isfinite"))
    place, name = owner_of("torch:_is_all_true")  # asked by torch/distributions/distribution.py
    setattr(place, name, _of_finite(getattr(place, name), True))


def _pinned(function: Callable) -> Callable:
    """`torch.tensor`, whose C++ code would ask the driver for pinned memory."""

    @functools.wraps(function)
    def made(*args, pin_memory=False, **kwargs):
        result = function(*args, **kwargs)
        return result.pin_memory() if pin_memory else result

    return made


def _of_list(function, place: int):
    """A function that makes a tensor of a list, in which some numbers may be tensors.

    PyTorch's C++ code would read those where nothing is. `place`: of the list in the arguments.
    """

    @functools.wraps(function)
    def made(*args, **kwargs):
        data = args[place] if len(args) > place else kwargs.get("data")
        tensors = _tensors(data) if isinstance(data, (list, tuple)) else []
        if not tensors:
            return function(*args, **kwargs)
        kwargs.pop("data", None)
        args = (*args[:place], _read(data), *args[place + 1 :])
        if len(args) < place + 2 and kwargs.get("dtype") is None:
            others = (one for one in tree_leaves(data) if not isinstance(one, torch.Tensor))
            kinds = {one.dtype for one in tensors} | {DTYPES.get(type(one)) for one in others}
            kinds = {one or torch.get_default_dtype() for one in kinds}
            kwargs["dtype"] = functools.reduce(torch.promote_types, kinds)
        result = function(*args, **kwargs)
        if any(ranges.numbers(one) is None for one in tensors):
            ranges.drop(result)
        return result

    return made


def _tensors(data: list | tuple) -> list[torch.Tensor]:
    """The tensors in a list, and in the lists in it."""
    found = []
    for one in data:
        if isinstance(one, torch.Tensor):
            found.append(one)
        elif isinstance(one, (list, tuple)):
            found += _tensors(one)
    return found


def _read(data):
    """A list with what is read from the tensors in it."""
    if isinstance(data, torch.Tensor):
        value = data.item()
        return int.__int__(value) if type(value) is Unknown else value
    return [_read(one) for one in data] if isinstance(data, (list, tuple)) else data


def _equal(tensor: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors are equal; by their shapes if the numbers of one are not known."""
    known = ranges.listed(tensor), ranges.listed(other)
    return tensor.shape == other.shape and (None in known or known[0] == known[1])


def _of_finite(function, first: bool):
    """The operator, whose result is now known to be true: `isfinite` (`first`), or `all` of it."""

    @functools.wraps(function)
    def wrapped(tensor, *args, **kwargs):
        result = function(tensor, *args, **kwargs)
        result.known_true = first or getattr(tensor, "known_true", False)
        return result

    return wrapped
