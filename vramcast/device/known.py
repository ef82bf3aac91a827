"""Numbers that are known: small tensors on the host are computed for real beside their shapes.

A script's indices, lengths and counts on the host decide sizes, as `data[i:i+n]` does. So a fake
tensor on the host keeps its numbers in `constant`, where FakeTensor keeps those of a single number.
They come from PyTorch's own functions (`torch.tensor`, `randint`, `arange`) and from real tensors
(`from_numpy`), and pass through every operator whose tensors are all known. On "cuda", nothing is.
"""

import torch
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map_only, tree_unflatten

from vramcast import compat
from vramcast.compat import FakeTensor, FakeTensorMode, OpOverload
from vramcast.operators.ranges import drop, keep_numbers

MOST = 2**17  # whole numbers or truth values of a tensor that is known: labels of a data set, say
FLOATS = 256  # other numbers: so that small weights on the host are not computed
READ = 2**22  # numbers of real tensors that an operator may read to make a small result
OTHERS = {"set_", "resize_", "resize_as_", "_local_scalar_dense"}  # not computed beside the shapes
# results of these numbers, whatever the tensor's that they resemble; what is empty gets its later
ALIKE = {"ones_like": 1, "new_ones": 1, "zeros_like": 0, "new_zeros": 0}
ALIKE |= dict.fromkeys(("empty", "empty_strided", "new_empty", "empty_like"), 0)
ORDERS = {"arange", "randperm"}  # of data sets, whose numbers are known however many they are
PICKS = {"index", "index_select", "gather", "embedding", "take"}  # read as many as they return


class Kind:
    """What matters here about an operator; to look it up anew takes long."""

    __slots__ = ("alike", "computed", "factory", "lifts", "measured", "orders", "picks", "writes")

    def __init__(self, func: OpOverload) -> None:
        name = func._schema.name.rpartition("::")[2]
        arguments = func._schema.arguments
        self.computed = func.namespace in ("aten", "prims") and name not in OTHERS
        self.alike = ALIKE.get(name)
        self.lifts = name == "lift_fresh"  # a real tensor, as torch.tensor and from_numpy make it
        tensors = any("Tensor" in str(argument.type) for argument in arguments)
        self.factory = self.computed and (not tensors or self.alike is not None)
        self.picks = func.is_view or name in PICKS
        self.orders = name in ORDERS
        self.measured = torch.Tag.dynamic_output_shape in func.tags
        written = [one.alias_info is not None and one.alias_info.is_write for one in arguments]
        self.writes = [place for place, is_written in enumerate(written) if is_written]


class Held:
    """Arguments of an operator some of whose tensors may be known."""

    def __init__(self, args: tuple, kwargs: dict) -> None:
        self.args = args
        self.leaves, self.spec = tree_flatten((args, kwargs))
        self.fakes = [
            (leaf, leaf.constant)
            for leaf in self.leaves
            if isinstance(leaf, FakeTensor) and leaf.constant is not None
        ]
        self.some = bool(self.fakes) or any(type(leaf) is torch.Tensor for leaf in self.leaves)

    def __enter__(self) -> None:
        """Meanwhile FakeTensorMode sees none of the numbers, and remembers results by shapes."""
        for tensor, _ in self.fakes:
            tensor.constant = None

    def __exit__(self, *exception) -> None:
        for tensor, constant in self.fakes:
            tensor.constant = constant

    def real(self, kind: Kind) -> tuple | None:
        """The arguments with their numbers; None if some are not known, or are very many."""
        if not kind.computed:
            return None
        read, found = 0, []
        for leaf in self.leaves:
            if isinstance(leaf, torch.Tensor):
                if isinstance(leaf, FakeTensor):
                    leaf = leaf.constant
                if type(leaf) is not torch.Tensor or leaf.device.type != "cpu":
                    return None
                read += leaf.numel()
            found.append(leaf)
        return tree_unflatten(found, self.spec) if kind.picks or read <= READ else None


def compute(mode: FakeTensorMode, func, kind: Kind, held: Held, result) -> None:
    """Keep the numbers of an operator's result, if they can be known.

    What it writes to a tensor is forgotten if it cannot.
    """
    if kind.lifts and not result.dtype.is_floating_point and not result.dtype.is_complex:
        keep_numbers(result, *held.leaves)  # however many: nothing is copied or computed
        return
    made = tree_leaves(result)
    arguments = held.real(kind) if all(map(_small, made)) else None
    found = None if arguments is None else computed(func, *arguments)
    if found is None:
        forget(mode, kind, held.args)
        return
    for one, other in zip(made, tree_leaves(found)):
        tensors = isinstance(one, FakeTensor) and isinstance(other, torch.Tensor)
        if tensors and one.constant is not other and one.shape == other.shape:
            keep_numbers(one, other)


def plain(tensor: torch.Tensor) -> bool:
    """Whether a tensor is a real one whose form is decided by its shape and type."""
    return (
        type(tensor) is torch.Tensor and tensor.device.type == "cpu"
        and tensor.layout is torch.strided and tensor.is_contiguous()
        and tensor.storage_offset() == 0 and not tensor.requires_grad
        and not (tensor.is_conj() or tensor.is_neg())
    )  # fmt: skip


def measured(mode: FakeTensorMode, func, kind: Kind, held: Held) -> object | None:
    """An operator's result whose size its numbers decide, if they are known; else None."""
    arguments = held.real(kind) if held.some else None
    found = None if arguments is None else computed(func, *arguments)
    if found is None:
        return None

    def fake(real: torch.Tensor) -> FakeTensor:
        tensor = torch.empty_strided(real.shape, real.stride(), dtype=real.dtype)
        if _small(tensor):
            keep_numbers(tensor, real)
        return tensor

    with mode:
        return tree_map_only(torch.Tensor, fake, found)


def made(mode: FakeTensorMode, func, kind: Kind, args: tuple, kwargs: dict, result) -> None:
    """Keep the numbers that a function gives a tensor on the host which it makes."""
    few = READ if kind.orders else MOST
    if type(result) is not FakeTensor or not _small(result, few):
        return
    if kind.alike is not None:
        with compat.no_dispatch():
            keep_numbers(result, torch.full(result.shape, kind.alike, dtype=result.dtype))
    else:
        found = computed(func, args, kwargs | {"pin_memory": None})
        if found is not None:
            keep_numbers(result, found)


def computed(func, args: tuple, kwargs: dict) -> object | None:
    """An operator's result on real tensors; None if it cannot be computed."""
    try:
        with compat.no_dispatch(), torch.no_grad():
            return func(*args, **kwargs)
    except (RuntimeError, IndexError, ValueError, TypeError):
        return None


def forget(mode: FakeTensorMode, kind: Kind, args: tuple) -> None:
    """The numbers of what the operator writes to, and of all its views, are not known any more."""
    for place in kind.writes:
        for tensor in tree_leaves(args[place]) if place < len(args) else ():
            drop(tensor)


def keep_row(row: FakeTensor, constant: torch.Tensor, dim: int, place: int) -> None:
    """Keep the numbers of a row of a known tensor, if they are few enough."""
    if _small(row):
        with compat.no_dispatch():
            keep_numbers(row, constant.select(dim, place))


def _small(result: object, most: int = MOST) -> bool:
    """Whether the numbers of an operator's result are few enough, if it is a tensor."""
    if not isinstance(result, FakeTensor):
        return not isinstance(result, torch.Tensor)
    dtype = result.dtype
    few = FLOATS if dtype.is_floating_point else most
    return (
        result.fake_device.type == "cpu"
        and result.numel() <= few
        and result.layout is torch.strided
        and not dtype.is_complex
    )
