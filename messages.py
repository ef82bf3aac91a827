"""What a script does where something is missing: fetch it, or end with a message that helps."""

import errno
import os
import sys
import time
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

import torch.distributed as dist
from filelock import FileLock
from torchvision.datasets import CIFAR10
from torchvision.datasets.utils import download_and_extract_archive

ROOT = Path(__file__).resolve().parent


def script_name() -> str:
    """The running script's path, relative to the repository where it lies inside it."""
    path = Path(sys.argv[0]).resolve()
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)


def rehearsal(program: str = "rehearse.py") -> str:
    """The command that rehearses (or predicts) the running script, from the working directory."""
    return f"python {os.path.relpath(ROOT / program)} {script_name()}"


def stop(problem: str) -> None:
    """End the script: say what is missing, and what can be done without it."""
    if os.environ.get("LOCAL_RANK", "0") != "0":  # one process of a machine speaks for all
        time.sleep(5)  # and is given the time to, before a launcher sees this one end
        sys.exit(1)
    sys.exit(
        f"{script_name()}: {problem}\n"
        "Nothing was trained. To run this script's code on this machine's CPU, with a small model\n"
        f"and small real data:  {rehearsal()}\n"
        f"To see how much GPU memory it needs:  {rehearsal('predict_memory.py')}"
    )


def load_cifar10() -> tuple[CIFAR10, CIFAR10]:
    """CIFAR-10's training and test set, downloaded first where they are missing or damaged.

    They are kept in `data_folder()`. Only one of several processes downloads. If there is no
    network or no room, the script ends with a message (exit status 1); existing files stay.
    """
    folder = data_folder()

    def load() -> tuple[CIFAR10, CIFAR10]:
        return CIFAR10(folder, train=True), CIFAR10(folder, train=False)

    with suppress(OSError, RuntimeError):  # missing or damaged, as MD5 sums tell torchvision
        return load()  # intact already: no lock needed, so a read-only folder will do
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "cifar10.lock"):
            with suppress(OSError, RuntimeError):
                return load()  # another process was faster
            # fetches the archive if its MD5 sum is not the right one, and unpacks it
            download_and_extract_archive(
                CIFAR10.url, folder, filename=CIFAR10.filename, md5=CIFAR10.tgz_md5
            )
            return load()
    except (OSError, RuntimeError, EOFError, HTTPException) as error:
        leave_without(
            "CIFAR-10",
            error,
            f"Run the script again to retry, or put the file {CIFAR10.filename} (170 MB, MD5\n"
            f"{CIFAR10.tgz_md5}) from {CIFAR10.url}\ninto that folder by hand.",
        )


def data_folder() -> Path:
    """The folder for data sets: `DATA_DIR` if that is set, else `data/` beside this file."""
    return Path(os.environ.get("DATA_DIR") or ROOT / "data")


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
