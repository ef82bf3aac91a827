"""Data sets and pretrained weights by their shapes alone: nothing is downloaded or read."""

import functools
import sys
import weakref

import numpy as np
import torch
import torchvision
from torch.utils.data import DataLoader
from torch.utils.data import dataloader as torch_dataloader
from torchvision.datasets import VisionDataset
from torchvision.models import WeightsEnum

from stand_ins.gpu import Gpu

QUIET = 2  # optimizer steps without a new peak, after which a loader ends
PASSES = 4  # backward passes of accumulation, with which one such step counts as two
STEPS = 20  # optimizer steps without one, after which a script that uses no loader ends
DATASETS = {  # name in torchvision: images for training, for testing, shape of one, classes
    "CIFAR10": (50_000, 10_000, (32, 32, 3), 10),
    "CIFAR100": (50_000, 10_000, (32, 32, 3), 100),
    "MNIST": (60_000, 10_000, (28, 28), 10),
    "FashionMNIST": (60_000, 10_000, (28, 28), 10),
}


class Steady(BaseException):
    """A script without a loader has come to its steady peak. No `except Exception` catches it."""


class Blank:
    """As many images as a data set has, all black and of class 0 (zeros take no memory)."""

    def __init__(
        self, root=None, train=True, transform=None, target_transform=None, download=False
    ) -> None:
        VisionDataset.__init__(
            self, root or "", transform=transform, target_transform=target_transform
        )
        for_training, for_testing, shape, classes = DATASETS[self.name]
        count = for_training if train else for_testing
        self.train = train
        self.data = np.zeros((count, *shape), np.uint8)
        self.targets = [0] * count
        if len(shape) == 2:  # MNIST's are tensors, and know their classes
            self.data, self.targets = torch.from_numpy(self.data), torch.zeros(count).long()
        else:
            self.classes = [str(number) for number in range(classes)]
            self.class_to_idx = {name: number for number, name in enumerate(self.classes)}


class Loaders:
    """A script's loaders: their own batch sizes in their order, and how many are in use."""

    def __init__(self) -> None:
        self.batch_sizes: list[int] = []
        self.running = 0


def install(mode: Gpu, peak, batch_size: int | None) -> Loaders:
    """Hand out shapes from now on. Cannot be undone.

    A loader gives its first batch again and again, and ends once `peak()` has stayed the same: in
    training for two cycles from one optimizer step to the next, in evaluation for one batch, and so
    when it is used again. `batch_size` takes the place of the first loader's, and of the others'
    that have the same.
    """
    for name in DATASETS:
        original = getattr(torchvision.datasets, name)
        blank = type(name, (Blank, original), {"name": name})
        setattr(torchvision.datasets, name, blank)
        setattr(sys.modules[original.__module__], name, blank)
    _replace_weights()
    loaders = Loaders()
    _replace_batch_size(batch_size, loaders.batch_sizes)
    iterate, tracker = DataLoader.__iter__, mode.tracker
    steady = weakref.WeakSet()

    def batches(loader):
        loader.num_workers, loader.pin_memory = 0, False
        with torch._subclasses.fake_tensor.unset_fake_temporarily():
            first = next(iterate(loader))
        seen, quiet, steps = peak(), 0, tracker.steps
        before = backwards = tracker.backwards
        loaders.running += 1
        try:
            for _ in range(len(loader)):
                yield torch.utils._pytree.tree_map_only(torch.Tensor, fake, first)
                training = tracker.backwards > before
                if training and tracker.steps == steps:
                    continue  # within a cycle
                many = tracker.backwards - backwards >= PASSES
                steps, backwards = tracker.steps, tracker.backwards
                quiet, seen = (quiet + 1 + many, seen) if peak() == seen else (0, peak())
                if quiet >= (QUIET if training and loader not in steady else 1):
                    steady.add(loader)
                    return
        finally:
            loaders.running -= 1

    def fake(tensor):
        return torch.empty_like(tensor, device="cpu")

    DataLoader.__iter__ = batches
    torch_dataloader.DataLoader.__iter__ = batches
    return loaders


def _replace_weights() -> None:
    """Pretrained weights have the shapes of the model that they are loaded into, in float32."""
    WeightsEnum.get_state_dict = lambda weights, *args, **kwargs: weights
    load = torch.nn.Module.load_state_dict

    def load_state_dict(module, state_dict, *args, **kwargs):
        if not isinstance(state_dict, WeightsEnum):
            return load(module, state_dict, *args, **kwargs)
        file = [
            torch.empty(value.shape, dtype=torch.float32, device="cpu")
            for value in module.state_dict().values()
        ]
        del file  # on the host meanwhile
        return torch.nn.modules.module._IncompatibleKeys([], [])

    torch.nn.Module.load_state_dict = load_state_dict


def _replace_batch_size(batch_size: int | None, own: list[int]) -> None:
    init = DataLoader.__init__

    @functools.wraps(init)
    def resized(loader, dataset, size=1, *args, **kwargs):
        size = kwargs.pop("batch_size", size)
        if size is not None and "batch_sampler" not in kwargs:
            own.append(size)
            size = batch_size if batch_size and size == own[0] else size
        init(loader, dataset, size, *args, **kwargs)

    DataLoader.__init__ = resized
