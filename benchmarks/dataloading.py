"""How many CIFAR-10 images one CPU core prepares per second: one by one, and in whole batches.

    python benchmarks/dataloading.py

Compared in one run, on one core, at 224 pixels (ViT-L/16) and 518 (ViT-H/14 with SWAG weights):
- one by one: what CIFAR-10 tutorials usually do for each image (PIL resize, ToTensor, Normalize);
- whole batches, enlarged as uint8: the same work on this core without the normalization, which a
  GPU would do;
- whole batches that the GPU enlarges: what the scripts do. This is the CPU's share of the work; if
  there is a GPU, a further line counts its share, too;
- whole batches, enlarged as float32: the same, but enlarged by this core, as in a rehearsal.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterable
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


def uint8_batches(pixels: torch.Tensor, size: int):
    """Batches [B, 3, size, size] uint8 from pixels [N, 32, 32, 3] uint8, resized in one call."""
    for batch in pixels.split(BATCH):
        yield F.interpolate(batch.permute(0, 3, 1, 2), size=size, mode="bilinear"), None


def speed(batches: Callable[[], Iterable], seconds: float) -> tuple[float, float]:
    """Images per second, and bytes per image that have to be copied to a GPU.

    `batches()` iterates over pairs that begin with the images. Runs for about `seconds`.
    """
    images = copied = 0
    start = None
    while start is None or time.perf_counter() - start < seconds:
        for batch, _ in batches():
            if start is None:  # the first batch only warms up
                start = time.perf_counter()
                continue
            images += len(batch)
            copied += batch.nbytes
            if time.perf_counter() - start > seconds:
                break
    return images / (time.perf_counter() - start), copied / images


def compare(size: int, seconds: float) -> dict[str, tuple[float, float]]:
    """`speed` of each pipeline at `size` pixels, by name, on random pictures."""
    pixels = torch.randint(256, (10 * BATCH, 32, 32, 3), dtype=torch.uint8)
    targets = torch.randint(10, (len(pixels),)).tolist()
    one_by_one = DataLoader(OneByOne(pixels.numpy(), targets, size), BATCH)
    dataset = ImageBatches(SimpleNamespace(data=pixels.numpy(), targets=targets))
    loader = DataLoader(dataset, BATCH, collate_fn=default_convert)

    def enlarged_on(device: str):
        for images, labels in loader:
            F.interpolate(images.to(device), size=size, mode="bilinear")
            if device == "cuda":
                torch.cuda.synchronize()
            yield images, labels

    results = {
        "one by one": speed(lambda: one_by_one, seconds),
        "whole batches, enlarged as uint8": speed(lambda: uint8_batches(pixels, size), seconds),
        "whole batches, for the GPU to enlarge": speed(lambda: loader, seconds),
    }
    if torch.cuda.is_available():
        results["... with the GPU's share"] = speed(lambda: enlarged_on("cuda"), seconds)
    rate, _ = speed(lambda: enlarged_on("cpu"), seconds)
    results["whole batches, enlarged as float32"] = rate, 0  # nothing is copied
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare ways to load CIFAR-10 on one CPU core.")
    parser.add_argument("--seconds", type=float, default=3, help="time for each measurement")
    seconds = parser.parse_args().seconds
    torch.set_num_threads(1)
    print(f"{'size':>4}  {'pipeline':37}  {'images/s':>9}  {'times':>6}  {'bytes/image':>11}")
    for size in (224, 518):
        results = compare(size, seconds)
        base = results["one by one"][0]
        for name, (rate, copied) in results.items():
            print(f"{size:4}  {name:37}  {rate:9,.0f}  {rate / base:6.1f}  {copied:11,.0f}")


if __name__ == "__main__":
    main()
