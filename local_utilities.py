"""What all scripts of the ladder share: the GPU check, the data, the progress and the report."""

import importlib.metadata
import json
import math
import os
import sys
import time
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path

import torch
from filelock import FileLock
from torch.utils.data import DataLoader, Dataset, default_convert, random_split
from torchvision.datasets import CIFAR10
from torchvision.datasets.utils import download_and_extract_archive
from tqdm import tqdm
from watermark import watermark

try:
    import resource
except ImportError:  # Windows has no such module: the host's peak is then not reported
    resource = None

ROOT = Path(__file__).resolve().parent
PACKAGES = ("torch", "torchvision", "lightning", "torchmetrics")

# Mean and standard deviation of the pixels (0..1) that torchvision's ImageNet weights were trained
# on, per channel: `ViT_L_16_Weights.IMAGENET1K_V1.transforms()` and the SWAG weights agree.
PIXEL_MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
PIXEL_STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


# ---------------------------------------------------------------------------------- the GPU check


def script_name() -> str:
    """The running script's path, relative to the repository where it lies inside it."""
    path = Path(sys.argv[0]).resolve()
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)


def stop(problem: str) -> None:
    """End the script with what is missing and with what can be done without it."""
    sys.exit(
        f"{script_name()}: {problem}\n"
        "Nothing was started. To run this script's code on this machine's CPU, with a small model\n"
        f"and small real data:  python rehearse.py {script_name()}"
    )


def check_gpus(needed: int = 1) -> None:
    """Stop the script (exit status 1) if this machine has fewer CUDA GPUs than `needed`."""
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if found < needed:
        plural = "s" if needed > 1 else ""
        stop(f"needs {needed} CUDA GPU{plural}, and PyTorch finds {found or 'none'} here.")


def check_bfloat16() -> None:
    """Stop the script (exit status 1) if the GPU computes bfloat16 by emulation or not at all."""
    if not torch.cuda.is_bf16_supported(including_emulation=False):
        stop(
            f"needs a GPU with bfloat16 (compute capability 8.0 or newer), and this is a "
            f"{torch.cuda.get_device_name()}. 02_mixed-precision.py uses float16 instead."
        )


# --------------------------------------------------------------------------------------- the data


class ImageBatches(Dataset):
    """Images that are handed out as whole batches, which is far faster than one by one.

    A batch is a pair: images [B, 3, 32, 32] float32, normalized as the pretrained weights expect,
    and labels [B] int64. Scripts enlarge the images on the GPU: that costs the CPU nothing and
    moves 12 KB an image instead of 602 KB (224 px). Enlarging after normalizing is the same as
    before it, because bilinear weights sum to one.
    """

    def __init__(self, dataset: CIFAR10) -> None:
        self.pixels = torch.from_numpy(dataset.data)  # [N, 32, 32, 3] uint8
        self.labels = torch.tensor(dataset.targets)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, indices: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        images = self.pixels[indices].permute(0, 3, 1, 2).float().div_(255)
        return images.sub_(PIXEL_MEAN).div_(PIXEL_STD), self.labels[indices]


def load_cifar10() -> tuple[CIFAR10, CIFAR10]:
    """CIFAR-10's training and test set, downloaded first where they are missing or damaged.

    They lie in the folder `DATA_DIR` if that is set, else in `data/` beside this file. Only one
    of several processes downloads. Without a network the script ends with a message (exit status
    1), and files that were already there stay.
    """
    folder = Path(os.environ.get("DATA_DIR") or ROOT / "data")

    def load() -> tuple[CIFAR10, CIFAR10]:
        return CIFAR10(folder, train=True), CIFAR10(folder, train=False)

    try:  # intact already: no lock needed, so a read-only folder will do
        return load()
    except (OSError, RuntimeError):  # missing or damaged, as the files' MD5 sums tell torchvision
        pass
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "cifar10.lock"):
            try:  # another process may have been faster
                return load()
            except (OSError, RuntimeError):
                # fetches the archive if its MD5 sum is not the right one, and unpacks it
                download_and_extract_archive(
                    CIFAR10.url, folder, filename=CIFAR10.filename, md5=CIFAR10.tgz_md5
                )
                return load()
    except (OSError, RuntimeError, EOFError, HTTPException) as error:
        sys.exit(
            f"{script_name()}: CIFAR-10 could not be downloaded to {folder}\n  ({error})\n"
            f"Run the script again to retry, or put the file {CIFAR10.filename} (170 MB, MD5\n"
            f"{CIFAR10.tgz_md5}) from {CIFAR10.url}\ninto that folder by hand. "
            f"Without CIFAR-10:  python rehearse.py {script_name()}"
        )


def cifar10_loaders(batch_size: int) -> tuple[DataLoader, DataLoader, DataLoader]:
    """Loaders of training, validation (a tenth of the training set) and test batches.

    Split and order depend on fixed seeds alone, so that all scripts see the same batches. There
    are no workers: one core prepares far more images than a GPU can use
    (`benchmarks/dataloading.py`).
    """
    train_part, test_part = (ImageBatches(part) for part in load_cifar10())
    train_part, val_part = random_split(
        train_part, [0.9, 0.1], generator=torch.Generator().manual_seed(123)
    )

    def loader(part: Dataset, **options) -> DataLoader:
        return DataLoader(part, batch_size, collate_fn=default_convert, pin_memory=True, **options)

    order = torch.Generator().manual_seed(123)
    return loader(train_part, shuffle=True, generator=order), loader(val_part), loader(test_part)


# ----------------------------------------------------------------------- the progress, the report


class Progress:
    """Iterate over a loader and show how far it is: a bar on a terminal, lines in a log file.

    `show(loss)` takes the loss as it is on the GPU. It is read only when it is displayed, since
    every reading makes the CPU wait for the GPU.
    """

    def __init__(self, loader: DataLoader, title: str, log_interval: float = 30.0) -> None:
        """`log_interval`: seconds between two lines where there is no terminal."""
        self.loader, self.title, self.log_interval = loader, title, log_interval
        self.batches = self.images = 0  # done so far
        self.seconds = 0.0  # spent on them
        self.first_loss = self.last_loss = None

    def __iter__(self):
        terminal = sys.stderr.isatty()
        start, shown = time.perf_counter(), 0.0
        with tqdm(self.loader, self.title, disable=not terminal, leave=False) as bar:
            try:
                for batch in bar:
                    yield batch
                    self.batches += 1
                    self.images += len(batch[-1])
                    self.seconds = time.perf_counter() - start
                    if terminal and self.seconds - shown >= 1:
                        shown = self.seconds
                        bar.set_postfix_str(self._loss_text())
                    elif not terminal and self.seconds - shown >= self.log_interval:
                        shown = self.seconds
                        print(self._line(), flush=True)
            finally:  # also when the loop is left early
                torch.cuda.synchronize()
                self.seconds = time.perf_counter() - start
        print(self._line(), flush=True)

    def show(self, loss: torch.Tensor) -> None:
        """Take note of the newest training loss."""
        self.last_loss = loss.detach()
        if self.first_loss is None:
            self.first_loss = self.last_loss

    def _loss_text(self) -> str:
        return "" if self.last_loss is None else f"loss {self.last_loss.item():.4f}, "

    def _line(self) -> str:
        return (
            f"{self.title}: batch {self.batches}/{len(self.loader)}, {self._loss_text()}"
            f"{self.images / self.seconds:.1f} images/s"
        )


def host_peak() -> float | None:
    """Peak host memory (resident set) of this process so far in GB; None on Windows."""
    if resource is None:
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage: bytes on macOS, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


class Report:
    """Print what ran where, how long it took and what it needed, and keep it as a JSON record.

    Records are appended to `measured.jsonl` in the folder `RESULTS_DIR` if that is set, else in
    `results/` beside this file.
    """

    def __init__(self, fabric=None) -> None:
        """Print versions and GPU; stop the script if Fabric's precision is too much for the GPU.

        `fabric`: the script's Fabric, or None for a plain PyTorch script.
        """
        precision = fabric.strategy.precision.precision if fabric else "32-true"
        if precision.startswith("bf16"):
            check_bfloat16()
        gpu = torch.cuda.get_device_properties(0)
        bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
        print(watermark(packages=",".join(PACKAGES), python=True))
        print(
            f"GPU: {gpu.name}, {gpu.total_memory / 1e9:.1f} GB, bfloat16: {bfloat16}\n", flush=True
        )
        self.record = {
            "script": script_name(),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "gpu": gpu.name,
            "precision": precision,
            "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        }
        self.epochs: list[Progress] = []
        self.start = time.perf_counter()

    def model_created(self) -> None:
        """Print the peak memory of creating the model, and start the clock of the training."""
        self._note("model_", "Creating the model")
        self.start = time.perf_counter()

    def end_epoch(self, training: Progress, val_accuracy: float) -> None:
        """Print the epoch's last loss and its validation accuracy (0..1)."""
        self.epochs.append(training)
        self.record["minutes"] = (time.perf_counter() - self.start) / 60
        self.record["loss_first"] = self.epochs[0].first_loss.item()
        self.record["loss_last"] = training.last_loss.item()
        self.record["val_accuracy"] = val_accuracy
        print(
            f"Epoch {len(self.epochs)}: loss {self.record['loss_last']:.4f}, "
            f"validation accuracy {val_accuracy:.2%}",
            flush=True,
        )

    def finish(self, test_accuracy: float) -> None:
        """Print time, speed, peak memory and test accuracy (0..1), and append the record."""
        images = sum(epoch.images for epoch in self.epochs)
        self.record["images_per_second"] = images / sum(epoch.seconds for epoch in self.epochs)
        self.record["test_accuracy"] = test_accuracy
        print(
            f"\nTraining and validation: {self.record['minutes']:.2f} min, "
            f"training {self.record['images_per_second']:.1f} images/s"
        )
        self._note("", "Whole run")
        print(f"Test accuracy: {test_accuracy:.2%}", flush=True)
        self._append()

    def _note(self, prefix: str, title: str) -> None:
        """Print and record the peaks so far, in GB (1e9 bytes)."""
        reserved = torch.cuda.max_memory_reserved() / 1e9
        allocated = torch.cuda.max_memory_allocated() / 1e9
        host = host_peak()
        self.record |= {
            f"{prefix}reserved_gb": reserved,
            f"{prefix}allocated_gb": allocated,
            f"{prefix}host_gb": host,
        }
        peaks = f"GPU peak {reserved:.2f} GB reserved, {allocated:.2f} GB allocated"
        print(f"{title}: {peaks}" + (f", host peak {host:.2f} GB" if host else ""), flush=True)

    def _append(self) -> None:
        path = Path(os.environ.get("RESULTS_DIR") or ROOT / "results") / "measured.jsonl"
        # JSON has no NaN: an undefined loss becomes null
        finite = {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in self.record.items()
        }
        line = json.dumps(finite)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a") as file:
                file.write(line + "\n")
        except OSError as error:
            print(f"The record could not be written ({error}). Here it is:\n{line}")
