"""Shared memory and semaphores by name, which a script may leave: they are removed at its end.

Python has a process for that, multiprocessing's resource tracker. It lives outside of the sandbox,
does what it is told, and prints what it does not understand. So a script cannot reach it.
"""

import contextlib
import os
from collections.abc import Callable
from multiprocessing import resource_tracker


def install() -> Callable[[], None]:
    """Remember from now on what the tracker is told; returns a function that removes what is left.

    What a script leaves that is killed stays.
    """
    held: dict[tuple[str, str], None] = {}  # kind and name

    def note(command: str, name: str, kind: str) -> None:
        if command == "REGISTER":
            held[kind, name] = None
        elif command == "UNREGISTER":
            held.pop((kind, name), None)

    def remove() -> None:
        for kind, name in held:
            with contextlib.suppress(Exception):  # a script may have noted what it likes
                resource_tracker._CLEANUP_FUNCS[kind](name)

    tracker = resource_tracker._resource_tracker
    if tracker._fd is not None:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, tracker._fd, inheritable=False)
        os.close(null)
    tracker._send, tracker.ensure_running = note, lambda: None
    return remove
