"""What a script prints while nobody looks: a file of bounded size, of which the end counts."""

import contextlib
import errno
import os
from pathlib import Path
from typing import Self

from vramcast.processes.messages import LINE, plain

MOST = 2**26  # bytes that the file may have before all but its end is dropped
END = 2**16  # bytes that are kept then, and read in the end


def to_file(path: Path, *streams: int) -> None:
    """In the script's process: have these streams append to a file that `Output` has made."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    for stream in streams:
        os.dup2(descriptor, stream)


def full(folder: Path) -> bool:
    """Whether not even a few bytes can be written into a folder."""
    probe = folder / f"room-{os.getpid()}"
    try:
        probe.write_bytes(b"x" * 4096)
    except OSError as error:
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()
    return False


def no_room(folder: Path) -> str:
    """What to do then, in a sentence."""
    return f"There is no room in {folder.parent}: make some, or set TMPDIR to another folder."


class Output:
    """The command's end of that file. It stays open: a script may put another in its place."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        self._before = b""  # the end of what was dropped

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        os.close(self._descriptor)

    def bound(self) -> None:
        """Drop all but the end if it has become too long. What is printed just then may be lost."""
        if os.fstat(self._descriptor).st_size > MOST:
            self._before = self._last()
            os.truncate(self._descriptor, 0)

    def last(self, lines: int) -> list[str]:
        """The last lines of the last END bytes, such as a terminal can show."""
        text = plain((self._before + self._last())[-END:].decode(errors="replace"))
        return [line[:LINE] for line in text.rstrip().splitlines()[-lines:]]

    def _last(self) -> bytes:
        size = os.fstat(self._descriptor).st_size
        return os.pread(self._descriptor, END, max(size - END, 0))
