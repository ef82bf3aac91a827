"""`os.path.realpath` by other functions than `os`'s own, which are redirected for scripts."""

import fcntl
import importlib.util
import os
import sys
from collections.abc import Callable
from types import SimpleNamespace


def resolver(lstat: Callable, readlink: Callable) -> Callable[[str], str]:
    """A function like `os.path.realpath` that sees links by these two functions."""
    spec = importlib.util.find_spec(os.path.__name__)
    paths = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(paths)
    paths.os = SimpleNamespace(**vars(os) | {"lstat": lstat, "readlink": readlink})
    return paths.realpath


realpath = resolver(os.lstat, os.readlink)  # as the kernel sees paths; made before the redirection


def path_of(descriptor: int) -> str:
    """The path of an open file or folder."""
    if sys.platform == "darwin":  # where /dev/fd has no links
        return os.fsdecode(fcntl.fcntl(descriptor, fcntl.F_GETPATH, bytes(1024)).rstrip(b"\0"))
    return realpath(f"/dev/fd/{descriptor}")
