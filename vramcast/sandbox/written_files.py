"""What a script writes goes to the scratch folder; the script finds it where it has written it.

Python's ways to files are redirected: `open`, and the functions of `os` that `pathlib`, `shutil`,
`tempfile` and most libraries use. To the script, the written files lie over those that are here:
it may change, remove and rename both, but the latter stay as they are.
"""

import builtins
import errno
import functools
import io
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from vramcast.sandbox.real_paths import path_of, realpath, resolver

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
MOST = 2**27  # bytes of a file that is here and is copied, to be renamed, linked or changed
REMEMBERED = {"bz2": "_builtin_open", "tarfile": "bltn_open"}  # where they have `open` by a name
_LSTAT, _STAT, _READLINK, _LISTDIR, _MKDIR, _GETCWD, _OPEN, _UNLINK = (
    os.lstat, os.stat, os.readlink, os.listdir, os.mkdir, os.getcwd, io.open, os.unlink
)  # fmt: skip


class Written:
    """The written files, in a folder, each at the path that it would have.

    A path "as seen" is absolute, without links, and as the script knows it.
    """

    def __init__(self, scratch: Path) -> None:
        self.scratch = realpath(scratch)
        self.top = os.path.join(self.scratch, "written")
        self.hidden: set[str] = set()  # files and folders that are here and that it has removed
        self.thinned: set[str] = set()  # the folders that they are in
        self.away = False  # whether the working directory is one of the written folders
        self._real: dict[str, str] = {}  # folders as seen, by their paths
        self._resolve = resolver(self._lstat, lambda path: _READLINK(self.at(path)))

    def seen(self, path, folder: int | None = None, follow: bool = True) -> str | None:
        """A path as seen; None for what is not redirected (descriptors, scratch, devices).

        `folder`: the descriptor of the one where it starts. `follow`: whether a link at its end is.
        """
        if path is None or isinstance(path, int) or not path:
            return None
        path = os.fsdecode(path)
        if folder is not None:
            path = os.path.join(self.opened(folder), path)
        start, name = os.path.split(self._own(os.path.abspath(path)))
        if start not in self._real:
            self._real[start] = self._resolve(start)
        path = os.path.join(self._real[start], name)
        if follow and self._is(stat.S_ISLNK, path):
            path = self._resolve(path)
        inside = path.startswith((self.scratch + os.sep, "/dev/", "/proc/", "/sys/"))
        return None if inside or path == self.scratch else path

    def opened(self, descriptor: int) -> str:
        """The path of an open folder as seen."""
        return self._own(path_of(descriptor))

    def _own(self, path: str) -> str:
        """Without the folder that the written files are in."""
        return path[len(self.top) :] or "/" if path.startswith(self.top + os.sep) else path

    def at(self, seen: str) -> str:
        """Where the file lies that is seen at a path: written or here; nowhere if it is removed."""
        place = self.top + seen
        return place if _is_there(place) or self._is_hidden(seen) else seen

    def to_read(self, path, seen: str):
        """The path to read from: the script's own, if that leads there."""
        place = self.at(seen)
        return path if place == seen and not self.away else place

    def _is_hidden(self, seen: str) -> bool:
        while self.hidden and seen != "/":
            if seen in self.hidden:
                return True
            seen = os.path.dirname(seen)
        return False

    def _lstat(self, path: str) -> os.stat_result:
        return _LSTAT(self.at(path))

    def _is(self, kind, seen: str) -> bool:
        """Whether there is a file of this kind: one of the module stat's questions."""
        try:
            return kind(self._lstat(seen).st_mode)
        except (OSError, ValueError):
            return False

    def is_there(self, seen: str) -> bool:
        """Whether the script sees something at a path."""
        return _is_there(self.at(seen))

    def names(self, seen: str) -> list[str]:
        """What the script sees in a folder."""
        place, found = self.top + seen, set()
        if not self._is(stat.S_ISDIR, seen):
            raise _error(errno.ENOTDIR if self.is_there(seen) else errno.ENOENT, seen)
        if not self._is_hidden(seen) and _is_folder(seen):
            here = _LISTDIR(seen)
            found |= {name for name in here if os.path.join(seen, name) not in self.hidden}
        return sorted(found.union(_LISTDIR(place) if _is_folder(place) else ()))

    def is_mixed(self, seen: str) -> bool:
        """Whether something in this very folder was written or removed."""
        return _is_there(self.top + seen) or seen in self.thinned or self._is_hidden(seen)

    def to_write(self, seen: str, keep: bool = False) -> str:
        """The place to write a file to; its folder has to exist. `keep`: its old content stays."""
        place, folder = self.top + seen, os.path.dirname(seen)
        if self._is(stat.S_ISDIR, folder):
            _make(self.top + folder)
            if keep and not _is_there(place) and self._is(stat.S_ISREG, seen):
                with _OPEN(seen, "rb") as old, _OPEN(place, "wb") as new:
                    shutil.copyfileobj(old, new)
        return place

    def owned(self, seen: str) -> bool:
        """Make a file or folder the script's own; whether that could be done.

        Copied are files that are not too large. Folders that are here, too, are not moved.
        """
        if not self.is_there(seen):
            raise _error(errno.ENOENT, seen)
        if _is_there(self.top + seen):
            return self._is_hidden(seen) or not _is_folder(seen)
        if not self._is(stat.S_ISREG, seen) or _LSTAT(seen).st_size > MOST:
            return False
        self.to_write(seen, keep=True)
        return True

    def hide(self, seen: str) -> None:
        """Let a file or folder that is here be removed, to the script."""
        if _is_there(seen):
            self.hidden.add(seen)
            self.thinned.add(os.path.dirname(seen))
        self.forget()

    def forget(self) -> None:
        """Look anew for the folders that links lead to."""
        self._real.clear()


def _is_there(path: str) -> bool:
    try:
        _LSTAT(path)
    except (OSError, ValueError):
        return False
    return True


def _is_folder(path: str) -> bool:
    try:
        return stat.S_ISDIR(_STAT(path).st_mode)
    except (OSError, ValueError):
        return False


def _make(folder: str) -> None:
    """Make a folder, and those above it."""
    missing = []
    while not _is_there(folder):
        missing.append(folder)
        folder = os.path.dirname(folder)
    for folder in reversed(missing):
        _MKDIR(folder)


def _error(number: int, *paths) -> OSError:
    """What the system says, with the script's own paths."""
    first, *rest = map(os.fsdecode, paths)
    return OSError(number, os.strerror(number), first, None, *rest)


def install(scratch: Path) -> Written:
    """Redirect files from now on."""
    written = Written(scratch)
    builtins.open = io.open = _open(written, io.open)
    for module, name in REMEMBERED.items():
        if module in sys.modules:
            setattr(sys.modules[module], name, io.open)
    os.getcwd = lambda: written._own(_GETCWD())
    for name, redirected in REDIRECTED.items():
        function = getattr(os, name, None)
        if function is None:  # on another system
            continue
        replacement = functools.wraps(function)(redirected(written, function))
        setattr(os, name, replacement)
        for able in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks):
            if function in able:
                able.add(replacement)
    for function in vars(tempfile._TemporaryFileCloser).values():  # which remember it
        if kept := getattr(function, "__defaults__", None):
            function.__defaults__ = tuple(os.unlink if one is _UNLINK else one for one in kept)
    return written


# ---------------------------------------------------------------------------------------- to read


def _open(written: Written, function):
    @functools.wraps(function)
    def opened(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None,
               closefd=True, opener=None):  # fmt: skip
        options = buffering, encoding, errors, newline, closefd
        if opener is not None and not isinstance(file, int):
            # It may start from another folder: what it calls is redirected. The path that Python
            # tells the audit hook is not the one that it opens.
            name = os.path.basename(os.fsdecode(file))
            place = os.path.join(written.scratch, name)
            return function(place, mode, *options, lambda _, flags: opener(file, flags))
        seen = written.seen(file)
        if seen is None:
            return function(_whole(file), mode, *options, opener)
        if any(letter in mode for letter in "wax+"):
            if "x" in mode and written.is_there(seen):
                raise _error(errno.EEXIST, file)
            return function(written.to_write(seen, "w" not in mode), mode, *options)
        return function(written.to_read(file, seen), mode, *options)

    return opened


def _whole(path, folder: int | None = None):
    """A path that does not depend on where it starts; audit.py cannot know that of others."""
    if isinstance(path, int) or not path or os.path.isabs(path):
        return path
    return os.path.join(_GETCWD() if folder is None else path_of(folder), os.fsdecode(path))


def _os_open(written: Written, function):
    def opened(path, flags, mode=0o777, *, dir_fd=None):
        seen = written.seen(path, dir_fd)
        if seen is None:
            if flags & WRITES:
                path, dir_fd = _whole(path, dir_fd), None
            return function(path, flags, mode, dir_fd=dir_fd)
        if not flags & WRITES:
            return function(written.to_read(path, seen), flags, mode, dir_fd=dir_fd)
        if flags & os.O_EXCL and written.is_there(seen):
            raise _error(errno.EEXIST, path)
        return function(written.to_write(seen, not flags & os.O_TRUNC), flags, mode)

    return opened


def _read(written: Written, function, follow: bool):
    def read(path, *args, **kwargs):
        seen = written.seen(
            path, kwargs.get("dir_fd"), follow and kwargs.get("follow_symlinks", True)
        )
        path = path if seen is None else written.to_read(path, seen)
        return function(path, *args, **kwargs)

    return read


def _folder(written: Written, path) -> str | None:
    """A folder as seen, by its path or its descriptor."""
    return written.seen(written.opened(path) if isinstance(path, int) else path or ".")


def _as_given(written: Written, path, seen: str | None):
    given = isinstance(path, int) or seen is None
    return path if given else written.to_read(path, seen)


def _listdir(written: Written, function):
    def listed(path=None):
        seen = _folder(written, path)
        if seen is None or not written.is_mixed(seen):
            return function(_as_given(written, path, seen))
        names = written.names(seen)
        return list(map(os.fsencode, names)) if isinstance(path, bytes) else names

    return listed


class Entry:
    """In the place of `os.DirEntry`."""

    def __init__(self, folder: str, seen: str, name: str | bytes) -> None:
        """`folder`: as the script has called it; `seen`: as seen."""
        self.name, self.path = name, os.path.join(folder, name) if folder else name
        self._seen = os.path.join(seen, os.fsdecode(name))

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        return os.stat(self._seen, follow_symlinks=follow_symlinks)

    def _is(self, kind, follow: bool) -> bool:
        try:
            return kind(self.stat(follow_symlinks=follow).st_mode)
        except FileNotFoundError:
            return False

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return self._is(stat.S_ISDIR, follow_symlinks)

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        return self._is(stat.S_ISREG, follow_symlinks)

    def is_symlink(self) -> bool:
        return self._is(stat.S_ISLNK, False)

    def is_junction(self) -> bool:
        return False

    def inode(self) -> int:
        return self.stat(follow_symlinks=False).st_ino

    def __fspath__(self) -> str | bytes:
        return self.path

    def __repr__(self) -> str:
        return f"<DirEntry {self.name!r}>"


class Entries(list):
    """What `os.scandir` returns: an iterator, and a context."""

    def __next__(self) -> Entry:
        if not self:
            raise StopIteration
        return self.pop(0)

    def __iter__(self) -> Iterator[Entry]:
        return self

    def __enter__(self) -> "Entries":
        return self

    def __exit__(self, *exception) -> None:
        self.clear()

    close = list.clear


def _scandir(written: Written, function):
    def scanned(path=None):
        seen = _folder(written, path)
        if seen is None or not written.is_mixed(seen):
            return function(_as_given(written, path, seen))
        start = "" if isinstance(path, int) else os.fspath(path or ".")
        names = map(os.fsencode, written.names(seen)) if isinstance(start, bytes) else None
        return Entries(Entry(start, seen, name) for name in names or written.names(seen))

    return scanned


# -------------------------------------------------------------------------------------- to change


def _set(written: Written, function, follow: bool = True):
    """What only attributes of a file change: those of what is here stay."""

    def changed(path, *args, **kwargs):
        seen = written.seen(path, kwargs.get("dir_fd"), kwargs.get("follow_symlinks", follow))
        if seen is None:
            if not isinstance(path, int):  # the kernel may let this succeed: see seccomp.py
                _LSTAT(path, dir_fd=kwargs.get("dir_fd"))
            return function(path, *args, **kwargs)
        if not written.is_there(seen):
            raise _error(errno.ENOENT, path)
        if _is_there(written.top + seen):
            function(written.top + seen, *args, **kwargs)

    return changed


def _mkdir(written: Written, function):
    def made(path, mode=0o777, *, dir_fd=None):
        seen = written.seen(path, dir_fd, False)
        if seen is None:
            return function(path, mode, dir_fd=dir_fd)
        if written.is_there(seen):
            raise _error(errno.EEXIST, path)
        written.forget()
        return function(written.to_write(seen), mode)

    return made


def _remove(written: Written, function):
    def removed(path, *, dir_fd=None):
        seen = written.seen(path, dir_fd, False)
        if seen is None:
            return function(path, dir_fd=dir_fd)
        if not written.is_there(seen):
            raise _error(errno.ENOENT, path)
        if written._is(stat.S_ISDIR, seen):
            raise _error(errno.EISDIR, path)
        if _is_there(written.top + seen):
            function(written.top + seen)
        written.hide(seen)

    return removed


def _rmdir(written: Written, function):
    def removed(path, *, dir_fd=None):
        seen = written.seen(path, dir_fd, False)
        if seen is None:
            return function(path, dir_fd=dir_fd)
        if not written.is_there(seen):
            raise _error(errno.ENOENT, path)
        if not written._is(stat.S_ISDIR, seen):
            raise _error(errno.ENOTDIR, path)
        if written.names(seen):
            raise _error(errno.ENOTEMPTY, path)
        if _is_there(written.top + seen):
            function(written.top + seen)
        written.hide(seen)

    return removed


def _rename(written: Written, function):
    def renamed(src, dst, *, src_dir_fd=None, dst_dir_fd=None):
        source = written.seen(src, src_dir_fd, False)
        target = written.seen(dst, dst_dir_fd, False)
        if source is not None and not written.is_there(source):
            raise _error(errno.ENOENT, src, dst)
        if source is not None and not written.owned(source):
            return function(src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)  # refused
        if target is not None and target != source and written._is(stat.S_ISDIR, target):
            if not _is_folder(src if source is None else written.top + source):
                raise _error(errno.EISDIR, src, dst)
            os.rmdir(target)
        function(
            src if source is None else written.top + source,
            dst if target is None else written.to_write(target),
        )
        if source is not None and source != target:
            written.hide(source)
        written.forget()

    return renamed


def _link(written: Written, function):
    def linked(src, dst, *, src_dir_fd=None, dst_dir_fd=None, follow_symlinks=True):
        source = written.seen(src, src_dir_fd, follow_symlinks)
        target = written.seen(dst, dst_dir_fd, False)
        if target is not None and written.is_there(target):
            raise _error(errno.EEXIST, src, dst)
        if source is not None and not written.owned(source):
            return function(src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)  # refused
        function(
            src if source is None else written.top + source,
            dst if target is None else written.to_write(target),
        )

    return linked


def _symlink(written: Written, function):
    def linked(src, dst, target_is_directory=False, *, dir_fd=None):
        target = written.seen(dst, dir_fd, False)
        if target is None:
            return function(src, dst, target_is_directory, dir_fd=dir_fd)
        if written.is_there(target):
            raise _error(errno.EEXIST, src, dst)
        written.forget()
        function(src, written.to_write(target), target_is_directory)

    return linked


def _truncate(written: Written, function):
    def truncated(path, length):
        if isinstance(path, int):
            return function(path, length)
        seen = written.seen(path)
        if seen is not None and not written.is_there(seen):
            raise _error(errno.ENOENT, path)
        place = _whole(path) if seen is None else written.to_write(seen, keep=True)
        with _OPEN(place, "r+b") as file:  # a path without a descriptor the kernel refuses
            return function(file.fileno(), length)

    return truncated


def _chdir(written: Written, function):
    def changed(path):
        seen = written.seen(path)
        here = seen is None or (_is_folder(seen) and not written._is_hidden(seen))
        function(written.top + seen if not here else path if seen is None else seen)
        written.away = not here

    return changed


_followed, _itself = (functools.partial(_read, follow=follow) for follow in (True, False))
REDIRECTED = {
    "open": _os_open, "listdir": _listdir, "scandir": _scandir, "chdir": _chdir,
    "stat": _followed, "access": _followed, "listxattr": _followed, "getxattr": _followed,
    "lstat": _itself, "readlink": _itself, "utime": _set, "chmod": _set, "setxattr": _set,
    "chown": _set, "lchown": functools.partial(_set, follow=False),
    "mkdir": _mkdir, "remove": _remove, "unlink": _remove, "rmdir": _rmdir, "rename": _rename,
    "replace": _rename, "link": _link, "symlink": _symlink, "truncate": _truncate,
}  # fmt: skip
