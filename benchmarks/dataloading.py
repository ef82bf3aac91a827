"""How many CIFAR-10 images one CPU core prepares per second: one by one, and in whole batches.

    python benchmarks/dataloading.py

Compared at 224 and 518 pixels, in one run and on one core:
- one by one: what CIFAR-10 tutorials usually do for each image (PIL resize, ToTensor, Normalize);
- whole batches: `local_utilities.cifar10_loaders`, which leaves the enlarging to the GPU;
- whole batches and enlarging: the same with the enlarging on this core too, as in a rehearsal;
- whole batches and enlarging on the GPU, where there is one.
"""

import argparse
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset, default_convert
from torchvision import transforms
from torchvision.datasets import CIFAR10

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from local_utilities import PIXEL_MEAN, PIXEL_STD, ImageBatches

BATCH = 64


class OneByOne(Dataset):
    """CIFAR-10's own per-image path (`CIFAR10.__getitem__`) with the usual transforms."""

    __getitem__ = CIFAR10.__getitem__

    def __init__(self, pixels, targets: list[int], size: int) -> None:
        self.data, self.targets, self.target_transform = pixels, targets, None
        self.transform = transforms.Compose(
            [
                transforms.Resize((size, size)),
                transforms.ToTensor(),
                transforms.Normalize(PIXEL_MEAN.flatten().tolist(), PIXEL_STD.flatten().tolist()),
            ]
        )

    def __len__(self) -> int:
        return len(self.data)


def speed(
    loader: DataLoader, seconds: float, size: int | None = None, device: str = "cpu"
) -> tuple[float, float]:
    """Images per second, and bytes per image that have to be copied to a GPU.

    `size`: enlarge each batch to that many pixels, on `device`. Runs for about `seconds`.
    """
    images = copied = 0
    start = None
    while start is None or time.perf_counter() - start < seconds:
        for batch, _ in loader:
            if size:
                F.interpolate(batch.to(device), size=size, mode="bilinear")
            if start is None:  # the first batch only warms up
                start = time.perf_counter()
                continue
            images += len(batch)
            copied += batch.nbytes
            if time.perf_counter() - start > seconds:
                break
    return images / (time.perf_counter() - start), copied / images


def compare(size: int, seconds: float) -> dict[str, tuple[float, float]]:
    """`speed` of the three pipelines at `size` pixels, by name, on random pictures."""
    pixels = torch.randint(256, (10 * BATCH, 32, 32, 3), dtype=torch.uint8).numpy()
    targets = torch.randint(10, (len(pixels),)).tolist()
    one_by_one = DataLoader(OneByOne(pixels, targets, size), BATCH)
    dataset = ImageBatches(SimpleNamespace(data=pixels, targets=targets))
    batches = DataLoader(dataset, BATCH, collate_fn=default_convert)
    results = {
        "one by one": speed(one_by_one, seconds),
        "whole batches": speed(batches, seconds),
        "whole batches and enlarging": speed(batches, seconds, size),
    }
    if torch.cuda.is_available():
        results["whole batches, enlarged on GPU"] = speed(batches, seconds, size, "cuda")
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare ways to load CIFAR-10 on one CPU core.")
    parser.add_argument("--seconds", type=float, default=3, help="time for each measurement")
    seconds = parser.parse_args().seconds
    torch.set_num_threads(1)
    print(f"{'size':>4}  {'pipeline':30}  {'images/s':>9}  {'times':>6}  {'bytes/image':>11}")
    for size in (224, 518):
        results = compare(size, seconds)
        base = results["one by one"][0]
        for name, (rate, copied) in results.items():
            print(f"{size:4}  {name:30}  {rate:9,.0f}  {rate / base:6.1f}  {copied:11,.0f}")


if __name__ == "__main__":
    main()
