"""What all scripts of the ladder share: the GPU check, the data, the progress and the report."""

import platform
import sys

if sys.version_info < (3, 11):  # noqa: UP036
    sys.exit("Python 3.11 or newer is needed, and this is " + platform.python_version())

import hashlib
import importlib.metadata
import importlib.util
import json
import math
import os
import re
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, Dataset, default_convert, random_split
from torchvision.datasets import CIFAR10
from tqdm import tqdm
from watermark import watermark

from cifar10 import load_cifar10
from messages import ROOT, folder, remedy, script_name, stop

PACKAGES = ["torch", "torchvision", "lightning", "torchmetrics"]  # whose versions are reported


# ---------------------------------------------------------------------------------- the GPU check


def check_gpus(needed: int = 1) -> int:
    """How many GPUs there are to train on; stop the script (exit status 1) if fewer than `needed`.

    If a script needs several, `several_gpus.py` also prepares this process to train with others.
    """
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if needed > 1:
        import several_gpus  # which all other scripts do without

        return several_gpus.prepare(needed, found)
    if dist.is_torchelastic_launched() and os.environ.get("WORLD_SIZE", "1") != "1":
        stop(f"is for one GPU, and torchrun started {os.environ['WORLD_SIZE']} processes.")
    if not found:
        stop("needs 1 CUDA GPU, and PyTorch finds none here.")
    return found


def check_packages(*names: str, extra: str = "bonus") -> None:
    """Stop the script (exit status 1) if a package is missing; `extra` of pyproject.toml has it."""
    absent = [name for name in names if importlib.util.find_spec(name) is None]
    if absent:
        sys.exit(
            f"{script_name()}: {' and '.join(absent)} cannot be found. Nothing was trained.\n"
            f'Install what this script needs:  pip install "{os.path.relpath(ROOT)}[{extra}]"'
        )
    PACKAGES.extend(names)


# --------------------------------------------------------------------------------------- the data

# Mean and standard deviation of the pixels (0..1) that torchvision's ImageNet weights were trained
# on, per channel: `ViT_L_16_Weights.IMAGENET1K_V1.transforms()` and the SWAG weights agree.
PIXEL_MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
PIXEL_STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


class ImageBatches(Dataset):
    """A data set that returns whole batches at once, which is far faster than image by image.

    A batch is a pair: images [B, 3, 32, 32] float32, normalized as the pretrained weights expect,
    and labels [B] int64. Scripts enlarge the images on the GPU: that costs the CPU nothing and
    moves 12 KB per image instead of 602 KB (224 px). Enlarging and normalizing can be swapped,
    because bilinear weights sum to one.
    """

    def __init__(self, dataset: CIFAR10) -> None:
        self.pixels = torch.from_numpy(dataset.data)  # [N, 32, 32, 3] uint8
        self.labels = torch.tensor(dataset.targets)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, indices: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        images = self.pixels[indices].permute(0, 3, 1, 2).float().div_(255)
        return images.sub_(PIXEL_MEAN).div_(PIXEL_STD), self.labels[indices]


def cifar10_loaders(batch_size: int) -> tuple[DataLoader, DataLoader, DataLoader]:
    """Loaders of CIFAR-10's training, validation (a tenth of the training set) and test batches.

    There are no workers: one core prepares far more images than a GPU can use
    (`benchmarks/dataloading.py`).
    """
    return loaders(*map(ImageBatches, load_cifar10()), batch_size, default_convert)


def loaders(train_part: Dataset, test_part: Dataset, batch_size: int, collate) -> tuple:
    """Loaders for training, validation and testing, over a set for training and one for testing.

    Split and order depend on fixed seeds alone, so all scripts (on as many GPUs) see the same
    batches. `Fabric.setup_dataloaders` divides the batches among several processes; a few samples
    are used twice if their number cannot be divided.
    """
    train_part, val_part = random_split(
        train_part, [0.9, 0.1], generator=torch.Generator().manual_seed(123)
    )

    def loader(part: Dataset, **options) -> DataLoader:
        return DataLoader(part, batch_size, collate_fn=collate, pin_memory=True, **options)

    order = torch.Generator().manual_seed(123)
    return loader(train_part, shuffle=True, generator=order), loader(val_part), loader(test_part)


# ----------------------------------------------------------------------- the progress, the report


def rank() -> int:
    """This process's number among those that train together, from 0 on; 0 if it trains alone."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes train together, one per GPU."""
    return dist.get_world_size() if dist.is_initialized() else 1


def say(text: str) -> None:
    """Print a text once, however many processes train together."""
    if rank() == 0:
        print(text, flush=True)


class Progress:
    """Iterate over a loader and show how far it is: a bar on a terminal, lines in a log file.

    `show(loss)` takes the loss as a tensor on the GPU. Its value is read only when it is displayed,
    because every reading makes the CPU wait for the GPU. If several processes train together, their
    loaders have the same length, and the mean loss and the total speed are shown once.
    """

    def __init__(self, loader: DataLoader, title: str) -> None:
        self.loader, self.title, self.unit = loader, title, "images"
        self.batches = self.samples = 0  # done so far, by this process
        self.seconds = 0.0  # spent on them
        self.first_loss = self.last_loss = None

    def __iter__(self):
        terminal = sys.stderr.isatty() and rank() == 0
        start, shown, interval = time.perf_counter(), 0.0, 1 if terminal else 30  # seconds
        with tqdm(self.loader, self.title, disable=not terminal, leave=False) as bar:
            try:
                for batch in bar:
                    yield batch
                    self.batches += 1
                    self.samples += len(batch[-1])
                    self.unit = "reviews" if isinstance(batch[0], list) else "images"
                    self.seconds = time.perf_counter() - start
                    if self.seconds - shown >= interval:
                        shown = self.seconds
                        bar.set_postfix_str(self._loss()) if terminal else say(self._line())
                torch.cuda.synchronize()
            finally:  # also when the loop is left early
                self.seconds = time.perf_counter() - start
        say(self._line())

    def show(self, loss: torch.Tensor) -> None:
        """Take the newest training loss, a scalar on the GPU; it is averaged over all processes."""
        self.last_loss = loss.detach().float().clone()
        if world_size() > 1:
            dist.all_reduce(self.last_loss)
            self.last_loss /= world_size()
        if self.first_loss is None:
            self.first_loss = self.last_loss

    def _loss(self) -> str:
        return "" if self.last_loss is None else f"loss {self.last_loss.item():.4f}, "

    def _line(self) -> str:
        speed = world_size() * self.samples / self.seconds if self.samples else 0.0
        return (
            f"{self.title}: batch {self.batches}/{len(self.loader)}, {self._loss()}"
            f"{speed:.1f} {self.unit}/s"
        )


def host_peak() -> float | None:
    """Peak host memory (resident set) of this process so far in GB; None on Windows."""
    with suppress(ImportError):
        import resource

        unit = 1 if sys.platform == "darwin" else 1024  # getrusage: bytes on macOS, KiB on Linux
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
    return None


def driver() -> str | None:
    """The version of NVIDIA's driver; None where the system does not tell: only Linux does."""
    with suppress(OSError):
        found = re.search(r"\d+\.[\d.]+", Path("/proc/driver/nvidia/version").read_text())
        return found and found[0]
    return None


class Report:
    """Print what ran where, how long it took and how much memory it needed; keep a JSON record.

    Each process of a script has a report and calls the same methods; the first process prints and
    keeps the figures of all. Records are appended to `measured.jsonl` in the folder `RESULTS_DIR`
    if that is set, else in `results/local/` beside this file. Each holds the versions and the
    SHA-256 of the script's file, so that it can be trusted later.
    """

    def __init__(self, fabric=None) -> None:
        """Print versions and GPU; stop the script if Fabric's precision is too much for the GPU.

        `fabric`: the script's Fabric, or None for a plain PyTorch script.
        """
        precision = fabric.strategy.precision.precision if fabric else "32-true"
        gpu = torch.cuda.get_device_properties(0)
        bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
        if precision.startswith("bf16") and not bfloat16:
            stop(
                "needs a GPU with bfloat16 (compute capability 8.0 or newer), and this is a "
                f"{gpu.name}. 11-16-under-1gb/11-3_float16-mixed.py uses float16."
            )
        count = f"{world_size()} × " if world_size() > 1 else ""
        say(watermark(packages=",".join(PACKAGES), python=True))
        say(f"GPU: {count}{gpu.name}, {gpu.total_memory / 1e9:.1f} GB, bfloat16: {bfloat16}\n")
        self.record = {
            "script": script_name(),
            "sha256": hashlib.sha256(Path(sys.argv[0]).read_bytes()).hexdigest(),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "gpu": gpu.name,
            "gpus": world_size(),
            "driver": driver(),
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
        # both are None of an epoch without a batch
        first, last = self.epochs[0].first_loss, training.last_loss
        self.record["loss_first"] = None if first is None else first.item()
        self.record["loss_last"] = None if last is None else last.item()
        self.record["val_accuracy"] = val_accuracy
        loss = "no batch" if last is None else f"loss {self.record['loss_last']:.4f}"
        say(f"Epoch {len(self.epochs)}: {loss}, validation accuracy {val_accuracy:.2%}")

    def finish(self, test_accuracy: float) -> None:
        """Print time, speed, peak memory and test accuracy (0..1), and append the record."""
        samples = world_size() * sum(epoch.samples for epoch in self.epochs)
        speed = samples / sum(epoch.seconds for epoch in self.epochs) if samples else 0.0
        unit = self.epochs[-1].unit
        self.record[f"{unit}_per_second"] = speed
        self.record["test_accuracy"] = test_accuracy
        say(
            f"\nTraining and validation: {self.record['minutes']:.2f} min, "
            f"training {speed:.1f} {unit}/s"
        )
        self._note("", "Whole run")
        say(f"Test accuracy: {test_accuracy:.2%}")
        if rank() == 0:
            self._append()

    def _note(self, prefix: str, title: str) -> None:
        """Print each process's peaks so far, in GB (1e9 bytes), and record the highest."""
        peaks = {
            "reserved": torch.cuda.max_memory_reserved() / 1e9,
            "allocated": torch.cuda.max_memory_allocated() / 1e9,
            "host": host_peak(),
        }
        ranks = [peaks] * world_size()
        if len(ranks) > 1:
            dist.all_gather_object(ranks, peaks)
        for number, peak in enumerate(ranks):
            name = f"{title}, rank {number}" if len(ranks) > 1 else title
            host = f", host peak {peak['host']:.2f} GB" if peak["host"] else ""
            say(
                f"{name}: GPU peak {peak['reserved']:.2f} GB reserved, "
                f"{peak['allocated']:.2f} GB allocated{host}"
            )
        for kind in peaks:
            of_ranks = [peak[kind] for peak in ranks]
            self.record[f"{prefix}{kind}_gb"] = None if None in of_ranks else max(of_ranks)
            if len(ranks) > 1:
                self.record[f"{prefix}{kind}_gb_by_rank"] = of_ranks

    def _append(self) -> None:
        path = folder("RESULTS_DIR", ROOT / "results" / "local") / "measured.jsonl"
        # JSON has no NaN: an undefined loss becomes null
        finite = {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in self.record.items()
        }
        line = json.dumps(finite)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a+b") as file:
                if file.tell():  # a full disk may have left half a line, which is none of ours
                    file.seek(-1, os.SEEK_END)
                    file.write(b"" if file.read(1) == b"\n" else b"\n")
                file.write(f"{line}\n".encode())
        except OSError as error:
            print(f"The record could not be written ({error}). {remedy(error, 'RESULTS_DIR')}")
            print(f"Here it is:\n{line}")
