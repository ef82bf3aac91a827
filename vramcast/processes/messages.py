"""What crosses from a script's process to its command: lines of JSON.

The script is a stranger. It can find the pipe and write into it what it likes, so nothing that
comes out of it is ever unpickled, and no read waits for the rest of a message.
"""

import contextlib
import json
import os
import stat
from multiprocessing.connection import Connection
from pathlib import Path

LONGEST = 2**16  # bytes of a line; a longer one is dropped
LARGEST = 2**30  # bytes of a file with a result


def send(message: object, pipe: Connection) -> None:
    """Write a message; nothing happens if nobody listens any more."""
    with contextlib.suppress(OSError):
        os.write(pipe.fileno(), json.dumps(message).encode() + b"\n")


class Receiver:
    """Reads messages from the other end of a pipe."""

    def __init__(self, pipe: Connection) -> None:
        self.pipe = pipe
        self._rest = b""

    def fileno(self) -> int:
        """For `multiprocessing.connection.wait`."""
        return self.pipe.fileno()

    def read(self) -> list[object] | None:
        """The messages that have come, None in the place of what is none.

        Call it when there is something to read. Raises EOFError once all writers have closed the
        pipe.
        """
        content = os.read(self.pipe.fileno(), LONGEST)
        if not content:
            raise EOFError
        *lines, self._rest = (self._rest + content).split(b"\n")
        if len(self._rest) > LONGEST:
            lines, self._rest = [*lines, b""], b""
        return [_parsed(line) for line in lines]


def _parsed(text: bytes) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def read_file(path: Path) -> object:
    """The content of a JSON file that a script's process has written; None if it is none.

    It has to be a regular file of at most LARGEST bytes: a link or a pipe would lead elsewhere.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST:
        os.close(descriptor)
        return None
    with open(descriptor, "rb") as file:
        return _parsed(file.read())
