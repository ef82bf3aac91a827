"""CIFAR-10's images: downloaded once, by one of several processes."""

from contextlib import suppress
from http.client import HTTPException

from torchvision.datasets import CIFAR10
from torchvision.datasets.utils import download_and_extract_archive

from messages import data_folder, leave_without, locked


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
        with locked(folder / "cifar10.lock"):
            with suppress(OSError, RuntimeError):
                return load()  # another process was faster
            # What CIFAR10(download=True) does, which does not see that batches.meta is damaged: the
            # archive is fetched if its MD5 sum is not the right one, and unpacked.
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
