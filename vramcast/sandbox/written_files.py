"""What a script writes goes to the scratch folder; the script finds it where it has written it.

Python's ways to files are redirected: `open`, and the functions of `os` that `pathlib`, `shutil`
and most libraries use. Of saved tensors only the shapes are kept. Existing files elsewhere stay as
they are; a script may not remove or rename them (sandbox.py).
"""

import builtins
import functools
import io
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch
from torch.distributed.tensor import DTensor
from torch.utils._pytree import tree_map

from vramcast.operators import ranges
from vramcast.when_imported import when_imported

FIRST = ("mkdir", "remove", "unlink", "rmdir", "utime", "chmod", "truncate")  # one path, changed
BOTH = ("rename", "replace")  # two paths
READ = ("stat", "lstat", "access", "listdir", "scandir", "chdir", "readlink")  # one path, read


class Written:
    """The written files, in a folder, each at the path that it would have."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = os.path.realpath(scratch)
        self.top = os.path.join(self.scratch, "written")
        self.saved: dict[str, object] = {}  # what `torch.save` was given, without numbers

    def place(self, path) -> str | None:
        """The redirected path; None for what is not redirected (descriptors, scratch, devices)."""
        if isinstance(path, int) or path is None:
            return None
        path = os.path.abspath(os.fsdecode(path))
        if path.startswith((self.scratch + os.sep, "/dev/", "/proc/")) or path == self.scratch:
            return None
        return self.top + path

    def written(self, path) -> str:
        """The path to read from: that of the written file, if there is one."""
        place = self.place(path)
        return place if place and self._is_there(place) else path

    def to_write(self, path, keep: bool = False) -> str:
        """The path to write to; its folder has to exist. `keep`: whether old content stays."""
        place = self.place(path)
        if place is None:
            return path
        folder = os.path.dirname(os.path.abspath(os.fsdecode(path)))
        if self._is_there(os.path.dirname(place)) or self._is_there(folder):
            _make(os.path.dirname(place))
            if keep and not self._is_there(place) and self._is_there(path):
                shutil.copyfile(path, place)
        return place

    def _is_there(self, path) -> bool:
        try:
            _STAT(path)
        except OSError:
            return False
        return True


_STAT, _MKDIR, _OPEN = os.stat, os.mkdir, io.open


def _make(folder: str) -> None:
    """Make a folder, and those above it."""
    missing = []
    while True:
        try:
            _STAT(folder)
            break
        except OSError:
            missing.append(folder)
            folder = os.path.dirname(folder)
    for folder in reversed(missing):
        _MKDIR(folder)


def install(scratch: Path) -> Written:
    """Redirect files from now on."""
    written = Written(scratch)
    builtins.open = io.open = _open(written, io.open)
    os.open = _os_open(written, os.open)
    for name in READ:
        setattr(os, name, _read(written, getattr(os, name), name == "listdir"))
    for name in FIRST:
        setattr(os, name, _change(written, getattr(os, name), name))
    for name in BOTH:
        setattr(os, name, _move(written, getattr(os, name)))
    torch.save = functools.partial(_save, written)
    torch.load = functools.partial(_load, written, torch.load)

    def safetensors(module: ModuleType) -> None:
        load = module.load_file
        module.save_file = functools.partial(_save, written)
        module.load_file = lambda file, device="cpu", **options: _load(
            written, lambda *args: load(file, device, **options), file, device
        )

    when_imported("safetensors.torch", safetensors)
    return written


def _open(written: Written, function):
    @functools.wraps(function)
    def opened(file, mode="r", *args, **kwargs):
        if any(letter in mode for letter in "wax+"):
            if "x" in mode and written.written(file) != file:
                raise FileExistsError(17, "File exists", str(file))
            return function(written.to_write(file, "w" not in mode), mode, *args, **kwargs)
        return function(written.written(file), mode, *args, **kwargs)

    return opened


def _os_open(written: Written, function):
    @functools.wraps(function)
    def opened(path, flags, *args, dir_fd=None, **kwargs):
        if dir_fd is None:
            writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
            keep = not flags & os.O_TRUNC
            path = written.to_write(path, keep) if writes else written.written(path)
        return function(path, flags, *args, dir_fd=dir_fd, **kwargs)

    return opened


def _read(written: Written, function, names: bool):
    @functools.wraps(function)
    def read(path=".", *args, **kwargs):
        if kwargs.get("dir_fd") is not None:
            return function(path, *args, **kwargs)
        other = written.written(path)
        if names and other != path and written._is_there(path):
            return sorted({*function(path), *function(other)})
        return function(other, *args, **kwargs)

    return read


def _change(written: Written, function, name: str):
    @functools.wraps(function)
    def changed(path, *args, **kwargs):
        if kwargs.get("dir_fd") is not None:
            return function(path, *args, **kwargs)
        if name == "mkdir":
            if written.place(path) and written._is_there(path):
                raise FileExistsError(17, "File exists", str(path))
            return function(written.to_write(path), *args, **kwargs)
        return function(written.written(path), *args, **kwargs)

    return changed


def _move(written: Written, function):
    @functools.wraps(function)
    def moved(source, target, **kwargs):
        return function(written.written(source), written.to_write(target), **kwargs)

    return moved


# ------------------------------------------------------------------------------------- checkpoints


@dataclass(frozen=True)
class Shape:
    """What is kept of a tensor that is saved."""

    shape: torch.Size
    dtype: torch.dtype
    device: torch.device

    def tensor(self, device) -> torch.Tensor:
        """A tensor of this shape and type, on its own device or another, without numbers."""
        made = torch.empty(self.shape, dtype=self.dtype, device=device or self.device)
        ranges.drop(made)
        return made


@dataclass(frozen=True)
class Part:
    """What is kept of a tensor that is spread over ranks (DTensor): this rank's part."""

    part: Shape
    spread: dict[str, object]  # how, as DTensor.from_local takes it

    def tensor(self, device) -> DTensor:
        """Such a tensor, whose part is on its own device or another."""
        return DTensor.from_local(self.part.tensor(device), run_check=False, **self.spread)


def _kept(leaf):
    """What is kept of a value that is saved."""
    if isinstance(leaf, DTensor):
        spread = {
            "device_mesh": leaf.device_mesh, "placements": leaf.placements,
            "shape": leaf.shape, "stride": leaf.stride(),
        }  # fmt: skip
        return Part(_kept(leaf.to_local()), spread)
    if isinstance(leaf, torch.Tensor):
        return Shape(leaf.shape, leaf.dtype, torch.device(leaf.device))
    return leaf


def _save(written: Written, content, file, *args, **kwargs) -> None:
    if isinstance(file, (str, os.PathLike)):
        with open(file, "wb"):  # so that it is found
            pass
        written.saved[os.path.abspath(file)] = tree_map(_kept, content)


def _load(written: Written, load, file, map_location=None, *args, **kwargs):
    name = os.path.abspath(file) if isinstance(file, (str, os.PathLike)) else None
    if name not in written.saved:
        return load(file, map_location, *args, **kwargs)
    device = map_location if isinstance(map_location, (str, int, torch.device)) else None

    def with_shape(leaf):
        return leaf.tensor(device) if isinstance(leaf, (Shape, Part)) else leaf

    return tree_map(with_shape, written.saved[name])
