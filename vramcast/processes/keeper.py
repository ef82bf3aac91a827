"""The keeper: a process between a command and a script, which ends all that the script started.

The keeper forks the script's process. Then it waits for one of three things: that process ends,
the command dies (in any way), or SIGTERM arrives (once: end the script politely; twice: at once).
After that it ends every process that the script left, and hands on the script's exit status.

On Linux it finds every descendant of the script's process, also those in sessions of their own: it
adopts them when their parents end (as a "subreaper", see prctl(2)) and finds them in /proc. If the
keeper itself is killed, the kernel kills the script's process, and the process that keepers are
forked from adopts what else there is, for the command to end it; if that is killed too, the command
adopts it. Only if a script kills these three at once can a process of its own survive. On other
systems (macOS) the keeper ends the script's process group: a process that left the group is missed,
and a killed keeper ends nothing. Processes that became another user's cannot be ended anywhere.
"""

import contextlib
import ctypes
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path

from vramcast.processes import messages

LINUX = sys.platform == "linux"
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER, PR_GET_CHILD_SUBREAPER = 1, 36, 37  # linux/prctl.h
PATIENCE = 3  # seconds between asking a script's processes to end and ending them
LOOK = 0.05  # seconds between two looks at whether something ended


def end_with_parent() -> None:
    """Have the kernel kill this process as soon as the thread that started it ends. Linux only."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def adopt_orphans() -> None:
    """Become the parent of descendants whose parents end. Linux only.

    Not if this process has children already, as in a shell's `daemon & exec COMMAND`: theirs are
    not for this process to end.
    """
    if LINUX and not descendants(os.getpid()):
        _prctl(PR_SET_CHILD_SUBREAPER, 1)


def adopts_orphans() -> bool:
    """Whether this process does."""
    found = ctypes.c_int(0)
    if LINUX:
        ctypes.CDLL(None).prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(found), 0, 0, 0)
    return bool(found.value)


def end_below(pid: int, but: Collection[int] = ()) -> None:
    """Kill all that descends from a process, but for these and theirs. Linux only."""
    while LINUX and _send(signal.SIGKILL, descendants(pid, but)):
        time.sleep(LOOK)


def keep(target: Callable, folder: Path, args: tuple, pipe: Connection, status: Connection) -> None:
    """Be the keeper of a process that runs `target(folder, send, *args)`.

    This forks, so that both return from here: the keeper and the script's process. What the script
    sends goes to `pipe` (see messages.py). Its exit status (negative: the signal that ended it)
    goes to `status`, once all that it started has ended. If the command is dead by then, its folder
    is removed. Of the files that are open here, the script's process has only `pipe`.
    """
    command, asked = multiprocessing.parent_process().sentinel, []
    if wait([command], 0):  # dead before its script could begin
        remove(folder)
        return
    signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
    os.setsid()  # out of the terminal's reach
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    keeper, script = os.getpid(), os.fork()
    if script == 0:
        _leave(pipe.fileno(), resource_tracker._resource_tracker._fd)
        os.setsid()
        end_with_parent()
        if os.getppid() != keeper:  # it was killed before that held
            os._exit(1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        target(folder, lambda message: messages.send(message, pipe), *args)
        return
    pipe.close()
    ended = None
    while ended is None and not asked and not wait([command], LOOK):
        ended = _bury(script)
    if ended is None:
        _signal_all(script, signal.SIGTERM)
        deadline = time.monotonic() + PATIENCE
        while _signal_all(script, 0) and len(asked) < 2 and time.monotonic() < deadline:
            time.sleep(LOOK)
            ended = _bury(script, ended)
    while _signal_all(script, signal.SIGKILL):
        time.sleep(LOOK)
        ended = _bury(script, ended)
    if wait([command], 0):
        remove(folder)
    messages.send(_bury(script, ended), status)


def _leave(*kept: int | None) -> None:
    """Close all files that this process inherited, but these and the standard streams.

    They become /dev/null: if their numbers were free, what they belonged to would close others.
    """
    null = os.open(os.devnull, os.O_RDWR)
    for name in os.listdir("/dev/fd"):
        if int(name) > 2 and int(name) not in (*kept, null):
            with contextlib.suppress(OSError):  # the listing's own
                os.fstat(int(name))
                os.dup2(null, int(name), inheritable=False)
    os.close(null)


def remove(folder: str | Path) -> None:
    """Remove a folder as far as one can. Python alone fails on thousands of folders in a row."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
    except RecursionError:
        subprocess.run(["rm", "-rf", "--", folder], stderr=subprocess.DEVNULL)


def _prctl(option: int, value: int) -> None:
    if LINUX:
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _bury(script: int, ended: int | None = None) -> int | None:
    """Take note of all children that ended; the script's exit status if it has ended."""
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == script:
                ended = os.waitstatus_to_exitcode(status)
    return ended


def _signal_all(script: int, sign: int) -> bool:
    """Send a signal (0: none) to all processes of a script; whether there was any process."""
    return _send(sign, descendants(os.getpid()) if LINUX else [-script])


def _send(sign: int, pids: list[int]) -> bool:
    found = False
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, sign)
            found = True
    return found


def descendants(root: int, but: Collection[int] = ()) -> list[int]:
    """The running processes that descend from one, according to /proc. Linux only.

    Those in `but` are left out, and what descends from them.
    """
    children: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):  # it ended meanwhile
                stat = Path(entry.path, "stat").read_text(errors="replace")
                state, parent = stat.rpartition(")")[2].split()[:2]
                children.setdefault(int(parent), []).append((int(entry.name), state))
    found, parents = [], [root]
    while parents:
        for pid, state in children.get(parents.pop(), []):
            if pid in but:
                continue
            parents.append(pid)
            if state not in "ZX":  # ended, and not yet buried
                found.append(pid)
    return found
