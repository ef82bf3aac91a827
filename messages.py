"""What a script says when it cannot run: what is missing, and what helps."""

import errno
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch.distributed as dist
from filelock import FileLock, Timeout

PATIENCE = 10  # seconds that a lock is waited for without a word
ROOT = Path(__file__).resolve().parent


def script_name() -> str:
    """The running script's path, relative to the repository where it lies inside it."""
    path = Path(sys.argv[0]).resolve()
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)


def rehearsal() -> str:
    """The command that rehearses the running script, from the working directory."""
    return f"python {os.path.relpath(ROOT / 'rehearse.py')} {script_name()}"


def stop(problem: str) -> None:
    """End the script: say what is missing, and what can be done without it."""
    launched = "TORCHELASTIC_RUN_ID" in os.environ or "LADDER_MAIN_PID" in os.environ
    if launched and os.environ.get("LOCAL_RANK", "0") != "0":  # one of a machine speaks for all
        time.sleep(5)  # and is given the time to, before a launcher sees this one end
        sys.exit(1)
    sys.exit(
        f"{script_name()}: {problem}\n"
        "Nothing was trained. To run this script's code on this machine's CPU, with a small model\n"
        f"and small real data:  {rehearsal()}\n"
        "To see how much GPU memory it needs, in the repository's folder:\n"
        f"python -m vramcast {script_name()}"
    )


def data_folder() -> Path:
    """The folder for data sets: `DATA_DIR` if that is set, else `data/` beside this file."""
    return folder("DATA_DIR", ROOT / "data")


def folder(variable: str, otherwise: Path) -> Path:
    """The folder that a variable names; a "~" in it is the home, as a shell may have left it."""
    return Path(os.path.expanduser(os.environ.get(variable) or otherwise))


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Only one of several processes at a time is in here. One that waits for long says for what."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=PATIENCE)
    except Timeout:
        print(
            f"{script_name()} waits for another process that downloads the same data, as {path}\n"
            "shows. If there is none, or it has been stopped, end it, and remove that file.",
            file=sys.stderr, flush=True,
        )  # fmt: skip
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def leave_without(data: str, error: Exception, retry: str) -> None:
    """End the script: say why the data is missing and what helps; for network errors, `retry`."""
    message = (
        f"{script_name()}: {data} could not be downloaded to {data_folder()}\n  ({error})\n"
        f"{remedy(error, 'DATA_DIR') or retry}\nWithout {data}:  {rehearsal()}"
    )
    if dist.is_initialized():  # at once, as after any error: see several_gpus.py
        print(message, file=sys.stderr, flush=True)
        os._exit(1)
    sys.exit(message)


def remedy(error: Exception, variable: str) -> str:
    """What to do if the folder that `variable` names cannot be written; "" for other errors."""
    number = getattr(error, "errno", None)
    if number in (errno.ENOSPC, errno.EDQUOT) or "disk space" in str(error):  # so says `datasets`
        return f"Make room on that disk, or set {variable} to a folder on another one."
    if number in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR):
        return f"Set the environment variable {variable} to a folder that you may write to."
    return ""
