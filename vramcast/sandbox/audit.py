"""What a predicted script may not do: write outside of its scratch folder, connect, start programs.

Python's audit hooks (PEP 578) see such an attempt before it happens, and tell what it is and where.
They do not see what C code does by itself, and a script that means to can get around them: it lives
in the same process. What holds then is what the kernel refuses (`landlock.py`, `seccomp.py`).
"""

import ctypes
import errno
import multiprocessing.util
import os
import resource
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType, MappingProxyType

from vramcast.processes.messages import brief, text_of
from vramcast.sandbox import landlock, seccomp
from vramcast.sandbox.real_paths import path_of, realpath

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = MappingProxyType({  # which arguments are a path, and the folder where it starts
    "os.mkdir": ((0, 2),), "os.rmdir": ((0, 1),), "os.remove": ((0, 1),),
    "os.rename": ((0, 2), (1, 3)), "os.link": ((0, 2), (1, 3)), "os.symlink": ((1, 2),),
    "os.chmod": ((0, 2),), "os.chown": ((0, 3),), "os.utime": ((0, 3),),
    "os.truncate": ((0, None),), "os.chflags": ((0, None),),
    "os.setxattr": ((0, None),), "os.removexattr": ((0, None),),
})  # fmt: skip
PROGRAMS = ("subprocess.Popen", "os.posix_spawn")
PROCESSES = MappingProxyType({
    "os.exec": "becomes another program", "os.system": "starts a program",
    "os.fork": "starts a process", "os.forkpty": "starts a process",
    "cpython.PyInterpreterState_New": "starts another interpreter",  # which has no audit hook
})  # fmt: skip
CONNECTIONS = (
    "socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo",
    "socket.getnameinfo", "socket.gethostbyname", "socket.gethostbyaddr", "syslog.syslog",
)  # fmt: skip
OTHERS = ("os.kill", "os.killpg", "resource.prlimit", "socket.sethostname")
C_CODE = ("ctypes.dlopen", "ctypes.dlsym", "ctypes.dlsym/handle")


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
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the kernel writes a crash where it likes
        self.kernel_has_files = landlock.restrict(scratch)
        self.kernel_has_calls = seccomp.restrict()

    def watch(self) -> None:
        """Refuse from now on; not earlier, because imports may start programs."""
        checks = self._checks()

        def look(event: str, args: tuple) -> None:
            # A function: a bound method costs twice as much, for half a million events.
            if event in checks:
                checks[event](event, args)

        sys.addaudithook(look)
        threading.excepthook = self._end_thread
        # ways to start a program of which no event tells: multiprocessing's, and the one below
        multiprocessing.util.spawnv_passfds = lambda *_: self._refuse("starts a process (spawn)")
        for module in (sys.modules.get("_posixsubprocess"), subprocess):
            for name in ("fork_exec", "_fork_exec"):
                if hasattr(module, name):
                    setattr(module, name, lambda *_: self._refuse("starts a process (fork_exec)"))

    def _checks(self) -> dict[str, Callable[[str, tuple], None]]:
        """What looks at which event. A script that imports this module cannot change it."""
        checks = {"open": self._opens, "sqlite3.connect": self._opens_database}
        checks |= {"fcntl.ioctl": self._asks_device, "fcntl.fcntl": self._asks_file}
        for events, check in (
            (CHANGES, self._changes), (PROGRAMS, self._starts_program),
            (PROCESSES, self._starts_process), (CONNECTIONS, self._connects),
            (OTHERS, self._acts_on_others), (C_CODE, self._calls_c_code),
        ):  # fmt: skip
            checks |= dict.fromkeys(events, check)
        return checks

    def denied(self, failure: BaseException) -> str | None:
        """What the kernel refused a script, as a sentence; None if its exception has another cause.

        An exception that names a file has another: Python's own writing is seen before it happens.
        """
        if getattr(failure, "filename", None) is not None:
            return None
        if self.kernel_has_files and "Permission denied" in text_of(failure):
            what = "writes or makes a file"
        elif self.kernel_has_calls and "Operation not permitted" in text_of(failure):
            what = "starts a process, or acts on others or on the system"
        else:
            return None
        text = brief(text_of(failure))
        frames = reversed(list(traceback.walk_tb(failure.__traceback__)))
        return self._sentence(f"{what} ({type(failure).__name__}: {text})", frames)

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

    def _opens(self, event: str, args: tuple, writing: int = WRITING) -> None:
        path, _, flags = args
        if not flags & writing or isinstance(path, int):
            return
        # The event does not tell where a relative path starts (dir_fd). Python's own functions to
        # open files pass whole ones: see written_files.py.
        if not os.path.isabs(os.fsdecode(path)) or not self._inside(path):
            self._refuse(f"writes a file ({os.fsdecode(path)})")

    def _opens_database(self, event: str, args: tuple) -> None:
        if args[0] not in ("", ":memory:") and not self._inside(args[0]):
            self._refuse(f"writes a file ({event}: {os.fsdecode(args[0])})")

    def _changes(self, event: str, args: tuple, paths: MappingProxyType = CHANGES) -> None:
        for place, start in paths[event]:
            path = args[place]
            if not self._inside(path, args[start] if start else None):
                name = path if isinstance(path, int) else os.fsdecode(path)
                self._refuse(f"changes files ({event}: {name})")

    def _connects(self, event: str, args: tuple) -> None:
        if event != "socket.sendmsg" or args[1] is not None:  # None: connected before
            raise OSError(errno.ENETUNREACH, "a prediction is offline", f"{event} {args}")

    def _starts_program(self, event: str, args: tuple) -> None:
        """As where there is no such program."""
        program = os.fsdecode(args[0])
        raise FileNotFoundError(errno.ENOENT, "a prediction starts no program", program)

    def _starts_process(self, event: str, args: tuple, said: MappingProxyType = PROCESSES) -> None:
        self._refuse(f"{said[event]} ({event})")

    def _acts_on_others(self, event: str, args: tuple) -> None:
        """As where they are another user's."""
        own = (os.getpid(),) if event.startswith("os.kill") else (0, os.getpid())
        if event == "socket.sethostname" or args[0] not in own:
            raise PermissionError(errno.EPERM, "a prediction acts on no others", f"{event} {args}")

    def _asks_device(self, event: str, args: tuple, may: tuple = seccomp.REQUESTS) -> None:
        if args[1] not in may:
            raise OSError(errno.ENOTTY, "a prediction sets no devices", f"{event} {args[1]:#x}")

    def _asks_file(self, event: str, args: tuple, may_not: tuple = seccomp.COMMANDS) -> None:
        if args[1] in may_not:
            raise PermissionError(errno.EPERM, "a prediction acts on no others", f"{event} {args}")

    def _calls_c_code(self, event: str, args: tuple) -> None:
        """What the script's own C code allocates on a GPU is not known. A courtesy, not a wall."""
        if self._from_script():
            self._refuse(f"calls C code ({event}: {args[-1]})")

    def _inside(self, path: str | bytes | os.PathLike | int, folder: int | None = None) -> bool:
        """Whether a path, or the file of a descriptor, lies where a script may write."""
        if isinstance(path, int):
            real = path_of(path)
        else:
            start = "" if folder in (None, -1) else path_of(folder)
            real = realpath(os.path.join(start, os.fsdecode(path)))
        beneath = (self.scratch + os.sep, "/dev/shm/")
        return real == self.scratch or real in landlock.HARMLESS or real.startswith(beneath)

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
