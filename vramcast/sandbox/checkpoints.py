"""Saved tensors: of each, a file holds the shape, the type and the device, and no numbers.

`torch.save` and `pickle` write that, wherever the script has it written. What is read back is the
content, whatever its path, so that copies, links and buffers are read like the file.
"""

import contextlib
import copy
import io
import itertools
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.distributed.tensor import DTensor

from vramcast import compat
from vramcast.compat import FakeTensor
from vramcast.operators import ranges
from vramcast.sandbox.written_files import Written

MAGIC = b"vramcast's checkpoint\n"


@dataclass(frozen=True)
class Shape:
    """What is kept of a tensor: of its storage, how many numbers, and which of these it shows."""

    storage: int  # a number of its own
    count: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    dtype: torch.dtype
    device: str
    grad: bool
    parameter: bool

    def tensor(self, device: str, storages: dict) -> torch.Tensor:
        """A tensor like it; those of one storage share one, which is kept in `storages`."""
        key = self.storage, self.dtype
        if key not in storages:
            storages[key] = torch.empty(self.count, dtype=self.dtype, device=device)
        made = storages[key].as_strided(self.size, self.stride, self.offset)
        ranges.drop(made)  # nothing is known of its numbers
        if self.parameter:
            return torch.nn.Parameter(made, self.grad)
        return made.requires_grad_(self.grad)


@dataclass(frozen=True)
class Part:
    """What is kept of a tensor that is spread over ranks: the part of this rank."""

    part: Shape
    spread: int  # its place in `_spreads`, which cannot be written

    def tensor(self, device: str, storages: dict) -> DTensor:
        """A tensor like it."""
        part = self.part.tensor(device, storages)
        return DTensor.from_local(part, run_check=False, **_spreads[self.spread])


_spreads: list[dict[str, object]] = []  # as DTensor.from_local takes them
_alone = itertools.count(-1, -1)
_loads: list[tuple["Places", dict]] = []  # of real files that are being loaded; see `_rebuild`


def _kept(tensor: torch.Tensor) -> Shape | Part:
    if not isinstance(tensor, DTensor):
        return _shape(tensor)
    _spreads.append(
        {
            "device_mesh": tensor.device_mesh, "placements": tensor.placements,
            "shape": tensor.shape, "stride": tensor.stride(),
        }
    )  # fmt: skip
    return Part(_shape(tensor.to_local()), len(_spreads) - 1)


def _shape(tensor: torch.Tensor) -> Shape:
    size, stride, offset = tuple(tensor.shape), None, 0
    if isinstance(tensor, FakeTensor) and tensor.layout == torch.strided:
        storage, stride = tensor.untyped_storage(), tensor.stride()
        number, count = storage._cdata, storage.nbytes() // tensor.element_size()
        offset = tensor.storage_offset()
    else:  # of other kinds, whole and by itself
        number, count = next(_alone), tensor.numel()
        stride = torch.empty(size, device="meta").stride()
    return Shape(
        number, count, size, stride, offset, tensor.dtype, str(tensor.device),
        tensor.requires_grad, isinstance(tensor, torch.nn.Parameter),
    )  # fmt: skip


class _Pickler(pickle.Pickler):
    def persistent_id(self, thing: object) -> Shape | Part | None:
        return _kept(thing) if isinstance(thing, torch.Tensor) else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, file, places: "Places") -> None:
        super().__init__(file)
        self.places, self.storages = places, {}

    def persistent_load(self, kept: Shape | Part) -> torch.Tensor:
        device = kept.part.device if isinstance(kept, Part) else kept.device
        return kept.tensor(self.places[device], self.storages)


class Place:
    """In the place of a storage, for a `map_location` that moves one."""

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)

    def cuda(self, device=None, *args, **kwargs) -> "Place":
        return Place("cuda")

    def cpu(self) -> "Place":
        return Place("cpu")


class Places(dict):
    """To which device each one goes by a `map_location` of any kind."""

    def __init__(self, asked: object) -> None:
        self.asked = asked

    def __missing__(self, device: str) -> str:
        if self.asked is None:
            return device
        if isinstance(self.asked, dict):
            return str(self.asked.get(device, device))
        if callable(self.asked):
            moved = self.asked(Place("cpu"), device)
            return device if moved is None else str(moved.device)
        return f"cuda:{self.asked}" if isinstance(self.asked, int) else str(self.asked)

    def get(self, device: str, default: str | None = None) -> str:
        return self[device]


def install(written: Written) -> None:
    """Let scripts save and load tensors without numbers, and load real ones by their shapes."""
    torch.save = save
    torch.load = _load(written, torch.load)
    FakeTensor.__reduce_ex__ = lambda tensor, protocol: (_alike, (_shape(tensor),))
    FakeTensor.__copy__ = _same
    compat.wrap("torch._utils:_rebuild_tensor", _rebuild)
    _scripted()


def _alike(shape: Shape) -> torch.Tensor:
    return shape.tensor(shape.device, {})


def _same(tensor: torch.Tensor) -> torch.Tensor:
    same = tensor.detach()
    if isinstance(tensor, torch.nn.Parameter):
        return torch.nn.Parameter(same, tensor.requires_grad)
    return same.requires_grad_(tensor.requires_grad)


def save(obj, f, *args, **kwargs) -> None:
    """In the place of `torch.save`."""
    content = io.BytesIO()
    _Pickler(content).dump(obj)
    _write(f, MAGIC + content.getvalue())


def _write(file, content: bytes) -> None:
    if isinstance(file, (str, os.PathLike)):
        with open(file, "wb") as opened:
            opened.write(content)
    else:
        file.write(content)


def _load(written: Written, original: Callable) -> Callable:
    def load(f, map_location=None, *args, **kwargs):
        """In the place of `torch.load`."""
        places = Places(map_location)
        if isinstance(f, (str, os.PathLike)):
            with open(f, "rb") as file:
                found = _read(file, places)
            seen = written.seen(f)
            f = f if seen is None else written.at(seen)  # for C code
        else:
            found = _read(f, places)
        if found is not None:
            return found[0]
        _loads.append((places, {}))
        try:
            return original(f, places, *args, **kwargs)
        finally:
            _loads.pop()

    return load


def _read(file, places: Places) -> tuple | None:
    """What was saved here; None if it is not a file of ours, which is then where it was."""
    start = file.tell()
    if file.read(len(MAGIC)) == MAGIC:
        return (_Unpickler(file, places).load(),)
    file.seek(start)
    return None


def _rebuild(original: Callable) -> Callable:
    """Let the tensors of a real file be made where they go, by the storages' places in the file.

    Without data, PyTorch's loader makes a storage for each tensor, says where it comes from, and
    does not move it (`load_tensor` in torch/serialization.py).
    """

    def rebuilt(storage, storage_offset, size, stride):
        inner = getattr(storage, "_untyped_storage", storage)
        if not _loads or inner.device.type != "meta":
            return original(storage, storage_offset, size, stride)
        places, storages = _loads[-1]
        key = getattr(inner, "_checkpoint_offset", inner._cdata), storage.dtype
        if key not in storages:
            device = places[getattr(inner, "_fake_device", None) or "cpu"]  # unknown in old files
            count = inner.nbytes() // storage.dtype.itemsize
            storages[key] = torch.empty(count, dtype=storage.dtype, device=device)
        return storages[key].as_strided(size, stride, storage_offset)

    return rebuilt


def _scripted() -> None:
    """Modules of TorchScript, which C++ writes: kept here, and of each a file with its number."""
    kept, load = [], torch.jit.load
    magic = MAGIC.upper()

    def save_one(module, f, **kwargs) -> None:
        kept.append(module)
        _write(f, magic + str(len(kept) - 1).encode())

    def load_one(f, *args, **kwargs):
        with (
            open(f, "rb")
            if isinstance(f, (str, os.PathLike))
            else contextlib.nullcontext(f) as file
        ):
            start, content = file.tell(), file.read(len(magic) + 9)
            file.seek(start)
        if content.startswith(magic):
            return copy.deepcopy(kept[int(content[len(magic) :])])
        return load(f, *args, **kwargs)

    torch.jit.save, torch.jit.load = save_one, load_one
    torch.jit.RecursiveScriptModule.save = torch.jit.ScriptModule.save = save_one
