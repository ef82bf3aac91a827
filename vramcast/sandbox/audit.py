"""What a predicted script may not do: write outside of its scratch folder, connect, start programs.

Python's audit hooks (PEP 578) see such an attempt before it happens, and tell what it is and where.
They do not see what C code does by itself; the kernel refuses that where it can
(`landlock.py`). Neither protects against malice.
"""

import ctypes
import errno
import multiprocessing.util
import os
import sys
import threading
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import FrameType

from vramcast.processes.messages import brief, text_of
from vramcast.sandbox import landlock
from vramcast.sandbox.real_paths import realpath

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = {  # event: which of its arguments are a path and the folder's descriptor it starts from
    "os.mkdir": [(0, 2)], "os.rmdir": [(0, 1)], "os.remove": [(0, 1)],
    "os.rename": [(0, 2), (1, 3)], "os.link": [(0, 2), (1, 3)], "os.symlink": [(1, 2)],
    "os.chmod": [(0, 2)], "os.chown": [(0, 3)], "os.utime": [(0, 3)], "os.truncate": [(0, None)],
    "os.setxattr": [(0, None)], "os.removexattr": [(0, None)], "os.chflags": [(0, None)],
}  # fmt: skip
PROGRAMS = ("subprocess.Popen", "os.posix_spawn")
PROCESSES = {"os.exec": "becomes another program", "os.system": "starts a program"}
PROCESSES |= dict.fromkeys(("os.fork", "os.forkpty"), "starts a process")
CONNECTIONS = (
    "socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo",
    "socket.getnameinfo", "socket.gethostbyname", "socket.gethostbyaddr", "syslog.syslog",
)  # fmt: skip
C_CODE = ("ctypes.dlopen", "ctypes.dlsym", "ctypes.dlsym/handle")
WATCHED = {"open", "sqlite3.connect", *CHANGES, *PROGRAMS, *PROCESSES, *CONNECTIONS, *C_CODE}


class Refused(BaseException):
    """A script tried to do what it may not do. No `except Exception` catches this."""


class Sandbox:
    """Restricts the script in this process."""

    def __init__(self, script: Path, scratch: Path) -> None:
        """Let the kernel restrict this thread, and those that it starts; `watch` does the rest."""
        self.script, self.scratch = str(script), realpath(scratch)
        self.refusals: list[str] = []  # sentences; also of what the script caught
        self.later: list[str] = []  # those of the time when nothing new is learned any more
        self.settled = lambda: False  # whether that time has come
        self.below_python = landlock.restrict(scratch)

    def watch(self) -> None:
        """Refuse from now on; not earlier, because imports may start programs."""
        # A function: a bound method costs twice as much, for half a million events.
        sys.addaudithook(lambda event, args: event in WATCHED and self._check(event, args))
        threading.excepthook = self._end_thread
        # multiprocessing's own way to start a program, of which no event tells
        multiprocessing.util.spawnv_passfds = lambda *_: self._refuse("starts a process (spawn)")

    def denied(self, failure: BaseException) -> str | None:
        """What the kernel refused a script, as a sentence; None if its exception has another cause.

        An exception that names a file has another: Python's own writing is seen before it happens.
        """
        if not self.below_python or "Permission denied" not in text_of(failure):
            return None
        if getattr(failure, "filename", None) is not None:
            return None
        text = brief(text_of(failure))
        frames = reversed(list(traceback.walk_tb(failure.__traceback__)))
        return self._sentence(f"writes or makes a file ({type(failure).__name__}: {text})", frames)

    def _sentence(self, what: str, frames: Iterable[tuple[FrameType, int]]) -> str:
        """A sentence on what the script did, and where; the innermost frame comes first."""
        lines = (line for frame, line in frames if frame.f_code.co_filename == self.script)
        line = next(lines, None)
        where = f"line {line}: " if line else ""
        if threading.get_ident() != threading.main_thread().ident:
            where = f"in a thread: {where}"
        return f"{where}it {what}, which a prediction does not do"

    def _refuse(self, what: str) -> None:
        sentence = self._sentence(what, traceback.walk_stack(sys._getframe()))
        (self.later if self.settled() else self.refusals).append(sentence)
        raise Refused(sentence)

    def _check(self, event: str, args: tuple) -> None:
        if event == "open":
            path, _, flags = args
            if flags & WRITING and not isinstance(path, int) and not self._inside(path):
                self._refuse(f"writes a file ({os.fsdecode(path)})")
        elif event == "sqlite3.connect":
            if args[0] not in ("", ":memory:") and not self._inside(args[0]):
                self._refuse(f"writes a file ({event}: {os.fsdecode(args[0])})")
        elif event in CHANGES:
            for place, start in CHANGES[event]:
                path = args[place]
                if not self._inside(path, args[start] if start else None):
                    name = path if isinstance(path, int) else os.fsdecode(path)
                    self._refuse(f"changes files ({event}: {name})")
        elif event in CONNECTIONS:
            if event != "socket.sendmsg" or args[1] is not None:  # None: connected before
                raise OSError(errno.ENETUNREACH, "a prediction is offline", f"{event} {args}")
        elif event in PROGRAMS:  # as where there is no such program
            program = os.fsdecode(args[0])
            raise FileNotFoundError(errno.ENOENT, "a prediction starts no program", program)
        elif event in PROCESSES:
            self._refuse(f"{PROCESSES[event]} ({event})")
        elif self._from_script():
            self._refuse(f"calls C code ({event}: {args[-1]})")

    def _inside(self, path: str | bytes | os.PathLike | int, folder: int | None = None) -> bool:
        """Whether a path, or the file of a descriptor, lies where a script may write."""
        path = f"/dev/fd/{path}" if isinstance(path, int) else os.fsdecode(path)
        start = "" if folder in (None, -1) else f"/dev/fd/{folder}"
        real = realpath(os.path.join(start, path))
        return real == self.scratch or real.startswith((self.scratch + os.sep, "/dev/"))

    def _from_script(self) -> bool:
        """Whether the script, or a file beside it, called ctypes."""
        frame = sys._getframe(3)  # beyond this function, _check and the hook
        while frame.f_back and frame.f_code.co_filename == ctypes.__file__:
            frame = frame.f_back
        return os.path.dirname(frame.f_code.co_filename) == os.path.dirname(self.script)

    def _end_thread(self, arguments: threading.ExceptHookArgs) -> None:
        """In the place of `threading.excepthook`: note why a thread of the script ended."""
        if isinstance(arguments.exc_value, Refused):  # noted, and a traceback tells no more
            return
        if sentence := self.denied(arguments.exc_value):
            self.refusals.append(sentence)
        threading.__excepthook__(arguments)
