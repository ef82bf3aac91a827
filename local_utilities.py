"""What all scripts of the ladder share: the GPU check, the data, the progress and the report."""

import errno
import importlib.metadata
import importlib.util
import json
import math
import os
import socket
import sys
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path

import torch
import torch.distributed as dist
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
PACKAGES = ["torch", "torchvision", "lightning", "torchmetrics"]  # whose versions are reported

# Mean and standard deviation of the pixels (0..1) that torchvision's ImageNet weights were trained
# on, per channel: `ViT_L_16_Weights.IMAGENET1K_V1.transforms()` and the SWAG weights agree.
PIXEL_MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
PIXEL_STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


# -------------------------------------------------------------------------- the processes (ranks)


def rank() -> int:
    """The number of this process among those that train together; 0 if it trains alone."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world_size() -> int:
    """How many processes train together, one per GPU."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def say(text: str) -> None:
    """Print on one rank for all of them."""
    if rank() == 0:
        print(text, flush=True)


def of_all_ranks(value) -> list:
    """The `value` of every rank, in their order. Every rank has to call this."""
    values = [value]
    if world_size() > 1:
        values = [None] * world_size()
        dist.all_gather_object(values, value)
    return values


def mean_of_ranks(loss: torch.Tensor) -> torch.Tensor:
    """The mean of the ranks' losses, as a float32 of its own. Every rank has to call this."""
    loss = loss.detach().float().clone()
    if world_size() > 1:
        dist.all_reduce(loss)
        loss /= world_size()
    return loss


def leave_at_once_on_error() -> None:
    """End this rank right after an error's traceback.

    Otherwise Python would first let NCCL clean up, which waits for the other ranks, while they wait
    for this one.
    """
    show = sys.excepthook

    def show_and_leave(*error) -> None:
        show(*error)
        leave()

    sys.excepthook = show_and_leave


def leave(message: str = "") -> None:
    """End this rank with a message; one of several at once, for the reason given above."""
    if world_size() == 1:
        sys.exit(message)
    print(message, end="\n" if message else "", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(1)


# ---------------------------------------------------------------------------------- the GPU check


def script_name() -> str:
    """The running script's path, relative to the repository where it lies inside it."""
    path = Path(sys.argv[0]).resolve()
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)


def rehearsal(program: str = "rehearse.py") -> str:
    """The command that rehearses (or predicts) the running script, from the working directory."""
    return f"python {os.path.relpath(ROOT / program)} {script_name()}"


def stop(problem: str) -> None:
    """End the script with what is missing and with what can be done without it."""
    if os.environ.get("LOCAL_RANK", "0") != "0":  # one process of a machine speaks for all
        time.sleep(5)  # and is given the time to, before a launcher sees this one end
        sys.exit(1)
    sys.exit(
        f"{script_name()}: {problem}\n"
        "Nothing was trained. To run this script's code on this machine's CPU, with a small model\n"
        f"and small real data:  {rehearsal()}\n"
        f"To see how much GPU memory it needs:  {rehearsal('predict_memory.py')}"
    )


def check_gpus(needed: int = 1) -> int:
    """How many GPUs there are to train on; stop the script (exit status 1) if fewer than `needed`.

    Under torchrun, each of its processes, on all machines, needs a GPU of its own. A script that
    needs several is also prepared for its processes: see below.
    """
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    under_torchrun = dist.is_available() and dist.is_torchelastic_launched()
    if under_torchrun and int(os.environ["WORLD_SIZE"]) < needed:
        stop(f"needs at least {needed} processes, and torchrun started {os.environ['WORLD_SIZE']}.")
    if under_torchrun and needed == 1 < int(os.environ["WORLD_SIZE"]):
        stop(f"is for one GPU, and torchrun started {os.environ['WORLD_SIZE']} processes.")
    here = int(os.environ["LOCAL_WORLD_SIZE"]) if under_torchrun else needed
    if found < here:
        plural = "s" if here > 1 else ""
        stop(f"needs {here} CUDA GPU{plural}, and PyTorch finds {found or 'none'} here.")
    if needed > 1:
        share_cores(here if under_torchrun else found)
        prepare_torchrun() if under_torchrun else prepare_processes()
    return int(os.environ["WORLD_SIZE"]) if under_torchrun else found


def share_cores(processes: int) -> None:
    """Give each of this machine's processes its share of the cores: CPU offload computes there.

    By itself, torchrun gives one core to each, and Fabric all cores to all but one.
    """
    threads = max(1, (os.cpu_count() or 1) // processes)
    torch.set_num_threads(threads)
    os.environ["OMP_NUM_THREADS"] = str(threads)


def prepare_torchrun() -> None:
    """Tell Fabric what torchrun has started, through the variables that `fabric run` uses."""
    os.environ.setdefault("LT_DEVICES", os.environ["LOCAL_WORLD_SIZE"])
    os.environ.setdefault("LT_NUM_NODES", os.environ["GROUP_WORLD_SIZE"])


def prepare_processes() -> None:
    """See to it that no process waits for another that is not there.

    The first one, which starts the others, makes sure that they can meet; the others end with it.
    """
    if "LOCAL_RANK" not in os.environ:
        os.environ["LADDER_MAIN_PID"] = str(os.getpid())
        check_port()
    elif "LADDER_MAIN_PID" in os.environ:
        parent = int(os.environ["LADDER_MAIN_PID"])
        threading.Thread(target=end_with, args=[parent], daemon=True).start()


def check_port() -> None:
    """Stop the script (exit status 1) if `MASTER_PORT` names a port that something else uses."""
    port = os.environ.get("MASTER_PORT")
    opened_elsewhere = os.environ.get("NODE_RANK", "0") != "0" or "SLURM_PROCID" in os.environ
    if port is None or opened_elsewhere:
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", int(port)))
        except (OSError, OverflowError, ValueError) as error:
            stop(
                f"its processes cannot meet at port {port}, which MASTER_PORT names: {error}.\n"
                "Unset MASTER_PORT, or set it to a port that is free."
            )


def end_with(parent: int) -> None:
    """End this process, as soon as the process `parent` that started it has ended."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def check_packages(*names: str, file: str = "requirements-bonus.txt") -> None:
    """Stop the script (exit status 1) if one of these packages, which `file` lists, is missing."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(
            f"{script_name()}: {' and '.join(missing)} cannot be found. Nothing was trained.\n"
            "Install what this script needs:  "
            f"pip install -r {os.path.relpath(ROOT / file)}"
        )
    PACKAGES.extend(names)


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


def data_folder() -> Path:
    """Where data sets lie: the folder `DATA_DIR` if that is set, else `data/` beside this file."""
    return Path(os.environ.get("DATA_DIR") or ROOT / "data")


def remedy(error: Exception, variable: str) -> str:
    """What helps if the folder that `variable` names cannot be written; "" for any other error."""
    number = getattr(error, "errno", None)
    if number in (errno.ENOSPC, errno.EDQUOT) or "disk space" in str(error):  # so says `datasets`
        return f"Make room on that disk, or set {variable} to a folder on another one."
    if number in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR):
        return f"Set the environment variable {variable} to a folder that you may write to."
    return ""


def leave_without(data: str, error: Exception, retry: str) -> None:
    """End the script with why data is missing and what helps: `retry`, but for a folder's fault."""
    leave(
        f"{script_name()}: {data} could not be downloaded to {data_folder()}\n  ({error})\n"
        f"{remedy(error, 'DATA_DIR') or retry}\nWithout {data}:  {rehearsal()}"
    )


def load_cifar10() -> tuple[CIFAR10, CIFAR10]:
    """CIFAR-10's training and test set, downloaded first where they are missing or damaged.

    They lie in `data_folder()`. Only one of several processes downloads. Without a network or a
    place for them the script ends with a message (exit status 1); files that were there stay.
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


def cifar10_loaders(batch_size: int) -> tuple[DataLoader, DataLoader, DataLoader]:
    """Loaders of training, validation (a tenth of the training set) and test batches.

    Split and order depend on fixed seeds alone, so that all scripts on as many GPUs see the same
    batches. There are no workers: one core prepares far more images than a GPU can use
    (`benchmarks/dataloading.py`).
    """
    return loaders(*map(ImageBatches, load_cifar10()), batch_size, default_convert)


def loaders(train_part: Dataset, test_part: Dataset, batch_size: int, collate) -> tuple:
    """The three loaders that all scripts use, over a set for training and one for testing.

    Several ranks share the batches out among them: `Fabric.setup_dataloaders` sees to that, and
    repeats a few samples where their number is not divisible by that of the ranks.
    """
    train_part, val_part = random_split(
        train_part, [0.9, 0.1], generator=torch.Generator().manual_seed(123)
    )

    def loader(part: Dataset, **options) -> DataLoader:
        return DataLoader(part, batch_size, collate_fn=collate, pin_memory=True, **options)

    order = torch.Generator().manual_seed(123)
    return loader(train_part, shuffle=True, generator=order), loader(val_part), loader(test_part)


# ----------------------------------------------------------------------- the progress, the report


class Progress:
    """Iterate over a loader and show how far it is: a bar on a terminal, lines in a log file.

    `show(loss)` takes the loss as it is on the GPU. It is read only when it is displayed, since
    every reading makes the CPU wait for the GPU. Several ranks iterate together, over loaders of
    equal length; what is shown, once, is the loss and the speed of all of them.
    """

    def __init__(self, loader: DataLoader, title: str, log_interval: float = 30.0) -> None:
        """`log_interval`: seconds between two lines where there is no terminal."""
        self.loader, self.title, self.log_interval = loader, title, log_interval
        self.batches = self.samples = 0  # done so far, by this rank
        self.unit = "images"
        self.seconds = 0.0  # spent on them
        self.first_loss = self.last_loss = None

    def __iter__(self):
        terminal = sys.stderr.isatty() and rank() == 0
        start, shown = time.perf_counter(), 0.0
        with tqdm(self.loader, self.title, disable=not terminal, leave=False) as bar:
            try:
                for batch in bar:
                    yield batch
                    self.batches += 1
                    self.samples += len(batch[-1])
                    self.unit = "reviews" if isinstance(batch[0], list) else "images"
                    self.seconds = time.perf_counter() - start
                    if terminal and self.seconds - shown >= 1:
                        shown = self.seconds
                        bar.set_postfix_str(self._loss_text())
                    elif not terminal and self.seconds - shown >= self.log_interval:
                        shown = self.seconds
                        say(self._line())
                torch.cuda.synchronize()
            finally:  # also when the loop is left early
                self.seconds = time.perf_counter() - start
        say(self._line())

    def show(self, loss: torch.Tensor) -> None:
        """Take note of the newest training loss, the mean over all ranks (one small message)."""
        self.last_loss = mean_of_ranks(loss)
        if self.first_loss is None:
            self.first_loss = self.last_loss

    def _loss_text(self) -> str:
        return "" if self.last_loss is None else f"loss {self.last_loss.item():.4f}, "

    def _line(self) -> str:
        return (
            f"{self.title}: batch {self.batches}/{len(self.loader)}, {self._loss_text()}"
            f"{world_size() * self.samples / self.seconds:.1f} {self.unit}/s"
        )


def host_peak() -> float | None:
    """Peak host memory (resident set) of this process so far in GB; None on Windows."""
    if resource is None:
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage: bytes on macOS, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


class Report:
    """Print what ran where, how long it took and what it needed, and keep it as a JSON record.

    Every rank of a script has a report, and all speak at the same places; rank 0 prints and keeps
    what they say, memory rank by rank. Records are appended to `measured.jsonl` in the folder
    `RESULTS_DIR` if that is set, else in `results/local/` beside this file.
    """

    def __init__(self, fabric=None) -> None:
        """Print versions and GPU; stop the script if Fabric's precision is too much for the GPU.

        `fabric`: the script's Fabric, or None for a plain PyTorch script.
        """
        precision = fabric.strategy.precision.precision if fabric else "32-true"
        if world_size() > 1:
            leave_at_once_on_error()
        if precision.startswith("bf16"):
            check_bfloat16()
        planned = getattr(fabric.strategy, "num_processes", 1) if fabric else 1
        if planned > world_size():  # as a cluster's scheduler can do
            stop(f"should train with {planned} processes, and only {world_size()} of them started.")
        gpu = torch.cuda.get_device_properties(0)
        bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
        count = f"{world_size()} × " if world_size() > 1 else ""
        say(watermark(packages=",".join(PACKAGES), python=True))
        say(f"GPU: {count}{gpu.name}, {gpu.total_memory / 1e9:.1f} GB, bfloat16: {bfloat16}\n")
        self.record = {
            "script": script_name(),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "gpu": gpu.name,
            "gpus": world_size(),
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
        say(
            f"Epoch {len(self.epochs)}: loss {self.record['loss_last']:.4f}, "
            f"validation accuracy {val_accuracy:.2%}"
        )

    def finish(self, test_accuracy: float) -> None:
        """Print time, speed, peak memory and test accuracy (0..1), and append the record."""
        samples = world_size() * sum(epoch.samples for epoch in self.epochs)
        speed = samples / sum(epoch.seconds for epoch in self.epochs)
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
        """Print every rank's peaks so far, in GB (1e9 bytes), and record the highest."""
        reserved = torch.cuda.max_memory_reserved() / 1e9
        allocated = torch.cuda.max_memory_allocated() / 1e9
        ranks = of_all_ranks({"reserved": reserved, "allocated": allocated, "host": host_peak()})
        for number, peak in enumerate(ranks):
            name = f"{title}, rank {number}" if len(ranks) > 1 else title
            host = f", host peak {peak['host']:.2f} GB" if peak["host"] else ""
            say(
                f"{name}: GPU peak {peak['reserved']:.2f} GB reserved, "
                f"{peak['allocated']:.2f} GB allocated{host}"
            )
        for kind in ("reserved", "allocated", "host"):
            peaks = [peak[kind] for peak in ranks]
            self.record[f"{prefix}{kind}_gb"] = None if None in peaks else max(peaks)
            if len(ranks) > 1:
                self.record[f"{prefix}{kind}_gb_by_rank"] = peaks

    def _append(self) -> None:
        path = Path(os.environ.get("RESULTS_DIR") or ROOT / "results" / "local") / "measured.jsonl"
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
            print(f"The record could not be written ({error}). {remedy(error, 'RESULTS_DIR')}")
            print(f"Here it is:\n{line}")
