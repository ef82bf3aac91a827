"""Whole numbers that a script reads from a tensor without numbers, and what they may be as sizes.

Such a number is 0, and remembers that it is not known, which range it has, and the line in which it
was read; so do its sums and products. Where it becomes a size of a tensor, the largest number
that it may be is taken, with a note; a slice is at most all that is sliced.
"""

import ast
import builtins
import functools
import itertools
import linecache
import operator
import sys
from collections.abc import Callable

import torch

from vramcast import compat

# functions to which a number is a size; to all others it is a value, which decides no memory
SIZES = {
    "arange", "as_strided", "bincount", "broadcast_to", "chunk", "empty", "expand", "eye", "full",
    "interpolate", "linspace", "logspace", "multinomial", "narrow", "new_empty", "new_full",
    "new_ones", "new_tensor", "new_zeros", "normal", "one_hot", "ones", "pad", "rand", "randint",
    "randn", "randperm", "repeat", "repeat_interleave", "reshape", "resize_", "split",
    "split_with_sizes", "tensor_split", "tile", "topk", "tril_indices", "triu_indices",
    "unflatten", "unfold", "view", "zeros",
}  # fmt: skip
ITEMS = {"__getitem__", "__setitem__"}
# and functions that put a number into a tensor, which is not known then
VALUES = {"tensor", "as_tensor", "full_like", "fill_", "add", "sub", "mul", "clamp", "where"}
VALUES |= {f"__{name}__" for name in ("add", "radd", "iadd", "sub", "rsub", "mul", "rmul")}


class Unsized(Exception):
    """A size depends on a number that is not known, of which no upper bound is known either."""


class Unknown(int):
    """A whole number that was read without being known: from `low` to `high` (None: any)."""

    low: int | None = None
    high: int | None = None
    read = False  # whether there was one
    guessed = False  # whether any number was read that is not known, also one that is not whole
    lost = False  # whether one became an ordinary number, so that sizes may depend on it unseen

    def __int__(self) -> int:
        Unknown.lost = True
        return int.__int__(self)

    __trunc__ = __index__ = __int__


def unknown(value: int, low: int | None, high: int | None) -> int:
    """A number that reads `value`, and is known to be from `low` to `high` (None: not known)."""
    if low is not None and low == high:
        return low  # which is known
    number = Unknown(value)
    Unknown.read = True
    follow()
    number.low, number.high = low, high
    return number


def whole(kind: Callable, value):
    """`int(value)`, where `int` is still Python's own; it remembers that a number is not known."""
    if kind is int and isinstance(value, torch.Tensor) and value.numel() == 1:
        value = value.item()
    return value if kind is int and type(value) is Unknown else kind(value)


def _range(number) -> tuple:
    known = isinstance(number, Unknown)
    return (number.low, number.high) if known else (int(number), int(number))


def _calculated(name: str, turned: bool):
    """The operator `name` on numbers one of which is not known, and on their ranges."""
    calculate = getattr(operator, name)

    def method(number: Unknown, other):
        if not isinstance(other, int):
            Unknown.lost = True
            return NotImplemented
        pair = (other, number) if turned else (number, other)
        ranges = [_range(one) for one in pair]
        divides = name in ("floordiv", "mod")
        if None in ranges[0] + ranges[1] or (divides and ranges[1][0] <= 0):
            ends = [None]
        elif name == "mod":
            ends = [0, ranges[1][1] - 1]
        else:
            ends = [calculate(*both) for both in itertools.product(*ranges)]
        first, second = (int.__int__(one) for one in pair)
        value = calculate(first, second) if second or not divides else 0
        return unknown(value, min(ends), max(ends))

    return method


def _forgotten(name: str):
    """A method whose result does not remember that the number is not known.

    To divide by it is to divide by 1 in the place of 0.
    """
    exact, divides = getattr(int, name), name in ("__rtruediv__", "__rdivmod__")

    @functools.wraps(exact)
    def method(number, *others):
        Unknown.lost = True
        return exact(number or 1 if divides else number, *others)

    return method


for _name in ("add", "sub", "mul", "floordiv", "mod"):
    setattr(Unknown, f"__{_name}__", _calculated(_name, False))
    setattr(Unknown, f"__r{_name}__", _calculated(_name, True))
for _name in ("float", "truediv", "rtruediv", "pow", "rpow", "lshift", "rshift", "and", "divmod"):
    setattr(Unknown, f"__{_name}__", _forgotten(f"__{_name}__"))
Unknown.__neg__ = lambda number: 0 - number
Unknown.__pos__ = Unknown.__round__ = Unknown.__ceil__ = Unknown.__floor__ = lambda number: number


def _of_several(choose):
    """`max` or `min`, which also choose among the ends of ranges."""

    @functools.wraps(choose)
    def chosen(*args, **kwargs):
        if len(args) == 2 and type(args[0]) is not Unknown and type(args[1]) is not Unknown:
            return choose(*args, **kwargs)
        if len(args) == 1 and not isinstance(args[0], (dict, str)):
            args = (list(args[0]),)
        several = args[0] if len(args) == 1 else args
        result = choose(*args, **kwargs)
        if kwargs or not any(type(one) is Unknown for one in several):
            return result
        if not all(isinstance(one, int) for one in several):
            Unknown.lost = True
            return result
        ends = list(zip(*map(_range, several)))
        low, high = (None if None in one else choose(one) for one in ends)
        return unknown(int.__int__(result), low, high)

    return chosen


def _any(values) -> bool:
    """Whether there is a number that is not known among these arguments of a function."""
    for value in values:
        kind = type(value)
        if kind is Unknown:
            return True
        if kind is tuple or kind is list:
            if _any(value):
                return True
        elif kind is slice and (type(value.start) is Unknown or type(value.stop) is Unknown):
            return True
    return False


class Sizes:
    """Replaces numbers that are not known where they are arguments of PyTorch's functions.

    `note` is called with a text about each size; `forget` with a tensor that now holds one.
    """

    note = forget = staticmethod(lambda told: None)

    def call(self, name: str, function, args: tuple, kwargs: dict):
        """The result of a function, with the largest sizes. Raises Unsized if there are none."""
        written = name in ("__setitem__", "__iadd__") or (name[-1:] == "_" and name[-2:] != "__")
        if name in ("split", "split_with_sizes") and isinstance((*args, *kwargs.values())[1], list):
            return self.split(*args, **kwargs)
        if name in ITEMS and _sliced(args[1]):
            self.note("a slice by a number of a tensor is taken to be as large as it can be")
        size = self.most if name in SIZES else _value
        args, kwargs = _changed(args, size), {key: _changed(kwargs[key], size) for key in kwargs}
        try:
            result = function(*args, **kwargs)
        except RuntimeError as failure:
            if name not in SIZES:
                raise
            raise Unsized(CANNOT) from failure
        for tensor in torch.utils._pytree.tree_leaves((result, args[:1] if written else ())):
            if isinstance(tensor, torch.Tensor):
                self.forget(tensor)
        return result

    def most(self, number: Unknown) -> int:
        """The largest size that a number may be. Raises Unsized if that is not known."""
        if number.high is None:
            raise Unsized(CANNOT)
        most = builtins.max(number.high, 0)
        self.note(f"a size that is a number of a tensor is taken to be {most}, the most it can be")
        return most

    def split(self, tensor, sizes, dim=0):
        """Parts of sizes that are not known: each may be all, so each is the largest part."""
        all_of_it = tensor.shape[dim]
        self.note("parts of unknown sizes are taken to be as large as each of them can be")
        highs = [all_of_it if _range(one)[1] is None else _range(one)[1] for one in sizes]
        return tuple(tensor.narrow(dim, 0, builtins.min(one, all_of_it)) for one in highs)


CANNOT = "a size depends on a number of a tensor, which is not known here"


def check_empty(slices: bool, args: tuple) -> None:
    """Raise Unsized if an empty tensor may be so because a number that was read is its size.

    It is not if the call names a size 0 itself; nor if each number that was read remembers that it
    is not known, but for slices: floats forget it.
    """
    if slices and not args[0].numel():
        return
    if (slices or Unknown.lost) and not _named():
        raise Unsized(CANNOT)


def _named() -> bool:
    """Whether the call that PyTorch's function comes from has a number 0 in its own text."""
    frame = sys._getframe(1)
    while frame and frame.f_globals.get("__name__", "").partition(".")[0] in ("torch", "vramcast"):
        frame = frame.f_back
    if frame is None:
        return False
    first, last, start, end = list(frame.f_code.co_positions())[frame.f_lasti // 2]
    lines = [linecache.getline(frame.f_code.co_filename, line) for line in range(first, last + 1)]
    try:
        call = ast.parse(_cut(lines, start, end), mode="eval").body
    except (SyntaxError, ValueError, IndexError):
        return False
    if isinstance(call, ast.Subscript):
        return any(isinstance(one, ast.Slice) and _zero(one.upper) for one in ast.walk(call.slice))
    if not isinstance(call, ast.Call):
        return False
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    sizes = call.args[:1] if "full" in name else call.args
    sizes = [*sizes, *(one.value for one in call.keywords if one.arg == "size")]
    if name == "arange":
        return all(isinstance(one, ast.Constant) for one in sizes)
    return any(_zero(one) for size in sizes for one in (size, *getattr(size, "elts", ())))


def _zero(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Constant) and node.value == 0


def _cut(lines: list[str], start: int, end: int) -> str:
    """The text of an expression, from the first line's column on to the last one's, in bytes."""
    lines = [line.encode() for line in lines]
    lines[-1] = lines[-1][:end]
    lines[0] = lines[0][start:]
    return b"".join(lines).decode()


def _sliced(index) -> bool:
    several = index if isinstance(index, tuple) else (index,)
    return any(isinstance(one, slice) and _any((one,)) for one in several)


def _value(number: Unknown) -> int:
    return int.__int__(number)


def _changed(value, size):
    kind = type(value)
    if kind is Unknown:
        return size(value)
    if kind is tuple or kind is list:
        return kind(_changed(one, size) for one in value)
    if kind is slice:
        start = None if type(value.start) is Unknown else value.start
        stop = None if type(value.stop) is Unknown else value.stop
        if type(value.stop) is Unknown and value.stop.high is not None and value.stop.low >= 0:
            stop = value.stop.high
        if type(value.start) is Unknown and value.start.low is not None and value.start.low >= 0:
            start = value.start.low
        return slice(start, stop, value.step)
    return value


@functools.cache
def follow() -> None:
    """From now on, numbers that are not known may be arguments of PyTorch's functions.

    To be called before a script that reads numbers starts: it looks up a function before it reads
    an argument. Not by a mode for all functions: each attribute of a tensor would call it, too.
    """
    compat.remember_factories()
    builtins.max, builtins.min = _of_several(builtins.max), _of_several(builtins.min)
    for owner in (torch, torch.Tensor, torch.nn.functional):
        for name in SIZES | ITEMS | VALUES:
            function = getattr(owner, name, None)
            if function is not None and not hasattr(object, name):
                setattr(owner, name, _looked_at(name, function))


def _looked_at(name: str, function):
    @functools.wraps(function)
    def looked_at(*args, **kwargs):
        if _any(args) or (kwargs and _any(kwargs.values())):
            return SIZED.call(name, function, args, kwargs)
        return function(*args, **kwargs)

    return looked_at


SIZED = Sizes()
