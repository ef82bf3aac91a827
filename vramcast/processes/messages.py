"""What crosses from a script's process to its command: lines of JSON.

The script is a stranger. It can find the pipe and write into it what it likes, so nothing that
comes out of it is ever unpickled, and no read waits for the rest of a message. Its texts come out
as `plain` ones: a terminal or a page that shows them does nothing else.
"""

import contextlib
import json
import os
import re
import stat
from multiprocessing.connection import Connection
from pathlib import Path

LINE = 1000  # characters of a line that is shown
LONGEST = 2**16  # bytes of a line; a longer one is dropped
LARGEST = 2**30  # bytes of a file with a result
# Characters that act on a terminal instead of being shown: all control characters but tab and line
# feed, and those that turn the direction of the text around them. A lone half of a surrogate pair,
# as of a name that is no UTF-8, cannot be encoded at all.
ACTS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def plain(text: str) -> str:
    """A text with an escape (as `\\x1b`) in the place of each character that acts on a terminal."""
    text = text.replace("\r\n", "\n")
    return ACTS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def text_of(thing: object) -> str:
    """What an object of a script, an exception mostly, says of itself; its `__str__` may fail."""
    try:
        return str(thing)
    except BaseException as failure:
        return f"<its text cannot be made: {type(failure).__name__}>"


def brief(text: str) -> str:
    """The first line that is not empty, of at most LINE characters."""
    line = text.strip().partition("\n")[0].rstrip()
    return line if len(line) <= LINE else f"{line[:LINE]} … ({len(text):,} characters)"


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
        return _plain(json.loads(text))
    except (ValueError, RecursionError):
        return None


def _plain(content: object) -> object:
    """JSON's content with plain texts."""
    if type(content) is str:
        return plain(content)
    if type(content) is list:
        return [_plain(one) for one in content]
    if type(content) is dict:
        return {plain(key): _plain(one) for key, one in content.items()}
    return content


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
