"""What a predicted script may not do: write outside of its scratch folder, connect, start programs.

Python's audit hooks see it before it happens (PEP 578). They are no protection against malice: what
C code does by itself is not seen.
"""

import os
import sys
from pathlib import Path

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = {  # event: which of its arguments are paths
    "os.mkdir": (0,), "os.rmdir": (0,), "os.remove": (0,), "os.truncate": (0,), "os.rename": (0, 1),
    "os.link": (1,), "os.symlink": (1,), "os.chmod": (0,), "os.utime": (0,), "shutil.rmtree": (0,),
}  # fmt: skip
PROGRAMS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty")
CONNECTIONS = (
    "socket.connect",
    "socket.bind",
    "socket.getaddrinfo",
    "socket.gethostbyname",
    "socket.sendto",
)


class Refused(BaseException):
    """A script was about to do what a prediction does not do. No `except Exception` catches it."""


def install(scratch: Path) -> list[str]:
    """Refuse from now on; returns the list to which each refusal is added. Cannot be undone."""
    allowed = os.path.realpath(scratch)
    refusals: list[str] = []

    def inside(path: object) -> bool:
        if isinstance(path, int) or path is None:  # a descriptor that something opened before
            return True
        real = os.path.realpath(os.fsdecode(path))
        return real.startswith(allowed + os.sep) or real == allowed or real.startswith("/dev/")

    def refuse(what: str) -> None:
        refusals.append(what)
        raise Refused(what)

    def hook(event: str, args: tuple) -> None:
        if event == "open":
            path, _, flags = args
            if flags & WRITING and not inside(path):
                refuse(f"writes a file ({os.fsdecode(path)})")
        elif event in CHANGES:
            for place in CHANGES[event]:
                if not inside(args[place]):
                    refuse(f"changes files ({event}: {os.fsdecode(args[place])})")
        elif event in CONNECTIONS:
            refuse(f"opens a connection ({event} {args})")
        elif event in PROGRAMS:
            refuse(f"starts a program ({event})")

    sys.addaudithook(hook)
    return refusals
