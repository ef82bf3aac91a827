"""The processes that both commands run scripts in.

Each process is forked from one that has already imported PyTorch and the stand-ins
(multiprocessing's forkserver). All that a command starts ends with the command, also if it is
killed; keeper.py says how, and what differs from system to system.
"""

import contextlib
import fcntl
import json
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import re
import secrets
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path

from vramcast.processes import keeper, messages

PROCESSES = multiprocessing.get_context("forkserver")
GRACE = 5  # seconds beyond a limit, in which a script's own process may still say what it knows
POLL = 0.3  # seconds; without it, a Ctrl-C just before a wait would be seen after it only
SOCKET_PATH = 103  # characters that a socket's path may have, on macOS; 107 on Linux
PACKAGES = Path(__file__).resolve().parents[2]  # the folder that this package is in
OURS = "vramcast-"  # how the names of temporary folders begin
_keepers: set[int] = set()
_starting = threading.Lock()  # where PROCESSES forks: one forked meanwhile would hold these pipes
_making = threading.Lock()  # a folder that is made has its lock before another thread looks
_ending = threading.Event()
_until_end = contextlib.ExitStack()


class Ended(Exception):
    """A script could not start, or was ended by `end_all` or by the end of the forkserver."""


class TooLong(Exception):
    """A script was ended because its time was over."""


def write_json(content: list | dict, path: Path) -> None:
    """Write a JSON file whole or not at all, into a folder that may have to be made.

    Meanwhile a file `.NUMBER-LETTERS.draft` is beside it, of which no other process has the name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{os.getpid()}-{secrets.token_hex(8)}.draft")
    try:
        draft.write_text(json.dumps(content, indent=1) + "\n")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def start_forkserver(*preload: str) -> None:
    """Start the process that scripts are forked from; it imports these modules first, if it can.

    Call this in the main thread: on Linux, the process is killed when the thread that started it
    ends. Ctrl-C does not reach it.
    """
    PROCESSES.set_forkserver_preload(["vramcast.processes.forkserver", *preload])
    multiprocessing.resource_tracker.ensure_running()  # which below would unblock the signal
    place, longest = tempfile.gettempdir(), "/forkserver-1234567-12345678/listener-12345678"
    if len(place + longest) > SOCKET_PATH:
        place = "/tmp"
    folder = _until_end.enter_context(scratch_folder("forkserver-", place))
    settings = multiprocessing.current_process()._config
    settings["tempdir"] = str(folder)  # one of multiprocessing's own would outlive a killed command
    os.environ["FORKSERVER_OF"] = str(os.getpid())
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)  # which importing PyTorch makes
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with contextlib.chdir(PACKAGES):  # where it looks for modules
            multiprocessing.forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        del settings["tempdir"]


def end_forkserver() -> None:
    """End the process that scripts are forked from, also while it still imports."""
    pid = _forkserver()
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    _until_end.close()
    if keeper.adopts_orphans() and not _keepers:
        keeper.end_below(os.getpid(), but=[multiprocessing.resource_tracker._resource_tracker._pid])


def _forkserver() -> int | None:
    return getattr(multiprocessing.forkserver._forkserver, "_forkserver_pid", None)


def run(
    target: Callable,
    folder: Path,
    *args: object,
    told: Callable[[object], None] | None = None,
    meanwhile: Callable[[], None] | None = None,
    limit: float | None = None,
) -> int:
    """Run `target(folder, send, *args)` in a process of its own; its exit status.

    A negative status is the signal that ended it. What the process passes to `send` (as JSON has
    it), `told` receives here, in the waiting thread; None stands for what was no message. When this
    returns or raises, all that the process started has ended. A first Ctrl-C asks it to end and
    waits some seconds; a second one ends it at once. `meanwhile` is called several times a second.

    The process has `limit` seconds from its first message on, or from its start where it sends
    none, and GRACE more in which it may end by itself.

    Raises TooLong after that, and Ended if the script could not start, or was stopped by `end_all`.
    """
    process = None
    try:
        with _starting:
            reports, sender = PROCESSES.Pipe(duplex=False)
            status, reporter = PROCESSES.Pipe(duplex=False)
            process = PROCESSES.Process(
                target=keeper.keep, args=(target, folder, args, sender, reporter)
            )
            with sender, reporter:
                _start(process)
            _keepers.add(process.pid)
        if _ending.is_set():  # since it started
            _ask(process.pid)
        code = _exit_status(reports, status, told, meanwhile or (lambda: None), limit)
    except BaseException:  # Ctrl-C, say
        if process is not None and process.pid is not None:
            _end(process.pid, status)
        raise
    finally:
        if process is not None and process.pid is not None:
            process.join()  # what the script left, if it killed its keeper, has a parent then
            _end_orphans()
            _keepers.discard(process.pid)
    if _ending.is_set():
        raise Ended("it was stopped")
    return code


def end_all() -> None:
    """End all that runs and start nothing new: `run` raises Ended. Works from any thread."""
    _ending.set()
    for pid in list(_keepers):
        _ask(pid)
    end_forkserver()


def _start(process: multiprocessing.Process) -> None:
    """Start a process, as soon as the forkserver has done its imports.

    Raises Ended if that has ended.
    """
    if _ending.is_set():
        raise Ended("it was stopped")
    try:
        process.start()
    except (EOFError, OSError) as error:
        raise Ended("the process that scripts are forked from has ended") from error


def _end_orphans() -> None:
    """Kill what keepers left that were killed; it descends from the process they are forked from.

    With one that is just being started, this waits: it would not be known for a keeper.
    """
    pid = _forkserver()
    if pid is not None:
        with _starting:
            keeper.end_below(pid, but=_keepers)


def _exit_status(
    reports: Connection,
    status: Connection,
    told: Callable | None,
    meanwhile: Callable,
    limit: float | None,
) -> int:
    """Hand on messages until a keeper has ended; the exit status that it reported.

    Raises TooLong as `run`.
    """
    code = -signal.SIGKILL  # which it cannot say if it is killed
    script, own = messages.Receiver(reports), messages.Receiver(status)
    ends, start, begun = [script, own], time.monotonic(), False
    while own in ends:
        meanwhile()
        if limit is not None and time.monotonic() > start + limit + GRACE:
            raise TooLong
        for end in wait(ends, POLL):
            try:
                found = end.read()
            except EOFError:
                ends.remove(end)
                continue
            if end is script and not begun:  # only once: the script could go on for ever
                start, begun = time.monotonic(), True
            for message in found:
                if end is own:
                    code = message if type(message) is int else code
                elif told is not None:
                    told(message)
    return code


def _ask(pid: int) -> None:
    """Ask a keeper to end its script politely; when asked a second time, it does so at once.

    A script may have stopped it.
    """
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGCONT)


def _end(pid: int, status: Connection) -> None:
    """Have a keeper end its script, and wait until it has."""
    while True:
        _ask(pid)
        try:
            while True:
                if status.poll(POLL):
                    messages.Receiver(status).read()
        except KeyboardInterrupt:
            continue
        except EOFError:  # it has ended
            return


@contextlib.contextmanager
def scratch_folder(prefix: str, place: str | None = None) -> Iterator[Path]:
    """A temporary folder, removed at the end. Folders that dead commands left are removed first.

    Its name has the command's process ID, and the command holds a lock on it. So a folder whose
    owner is alive, even in another container, is not touched.
    """
    place, prefix = place or tempfile.gettempdir(), f"{OURS}{prefix}"
    with contextlib.ExitStack() as stack:
        with _making:
            _remove_left(prefix, place)
            folder = tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-", dir=place)
            stack.callback(keeper.remove, folder)
            lock = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, lock)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield Path(folder)


def _remove_left(prefix: str, place: str) -> None:
    """Remove this user's folders with this prefix whose commands are dead.

    A folder with this command's own ID but without a lock was an earlier command's with that ID.
    """
    for entry in os.scandir(place):
        match = re.fullmatch(rf"{prefix}([0-9]{{1,9}})-[a-z0-9_]{{8}}", entry.name)
        if match is None or (int(match[1]) != os.getpid() and _alive(int(match[1]))):
            continue
        with contextlib.suppress(OSError):  # somebody holds its lock, or it has just been removed
            lock = os.open(entry.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if os.fstat(lock).st_uid == os.getuid():
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    keeper.remove(entry.path)
            finally:
                os.close(lock)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    return True
