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

from prediction.gpu import Gpu
from prediction.options import Options
from prediction.watched import QUIET, Watched, rose

PASSES = 4  # backward passes of accumulation, with which a step without a new peak counts as two
DATASETS = {  # name in torchvision: images for training, for testing, shape of one, classes
    "CIFAR10": (50_000, 10_000, (32, 32, 3), 10),
    "CIFAR100": (50_000, 10_000, (32, 32, 3), 100),
    "MNIST": (60_000, 10_000, (28, 28), 10),
    "FashionMNIST": (60_000, 10_000, (28, 28), 10),
}


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
    """What is known of a script's loaders."""

    batch_size: int | None = None  # the first one's own
    samples: int | None = None  # in its data set, where that says so


def install(mode: Gpu, watched: Watched, options: Options) -> Loaders:
    """Hand out shapes from now on. Cannot be undone.

    A loader gives its first batch again and again, and ends once the peak has stayed the same: in
    training for two cycles from one optimizer step to the next, in evaluation for one batch, and so
    when it is used again. The batch size asked for takes the place of the first loader's, and of
    the others' that have the same, unless the script's own number is replaced.
    """
    for name in DATASETS:
        original = getattr(torchvision.datasets, name)
        blank = type(name, (Blank, original), {"name": name})
        setattr(torchvision.datasets, name, blank)
        setattr(sys.modules[original.__module__], name, blank)
    _replace_weights()
    loaders = Loaders()
    _replace_batch_size(loaders, None if options.number else options.batch_size, watched.notes)
    iterate, tracker = DataLoader.__iter__, mode.tracker
    steady = weakref.WeakSet()

    def batches(loader):
        loader.num_workers, loader.pin_memory = 0, False
        with torch._subclasses.fake_tensor.unset_fake_temporarily():
            first = next(iterate(loader), None)
        if first is None:  # fewer samples than one batch, and drop_last
            return
        seen, quiet, steps = watched.peak(), 0, tracker.steps
        before = backwards = tracker.backwards
        watched.loaders += 1
        try:
            for _ in range(len(loader)):
                yield torch.utils._pytree.tree_map_only(torch.Tensor, fake, first)
                training = tracker.backwards > before
                if training and tracker.steps == steps:
                    continue  # within a cycle
                many = tracker.backwards - backwards >= PASSES
                steps, backwards = tracker.steps, tracker.backwards
                quiet = 0 if rose(seen, watched.peak()) else quiet + 1 + many
                seen = watched.peak()
                if quiet >= (QUIET if training and loader not in steady else 1):
                    steady.add(loader)
                    return
        finally:
            watched.loaders -= 1

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


def _replace_batch_size(loaders: Loaders, batch_size: int | None, notes: list[str]) -> None:
    init = DataLoader.__init__

    @functools.wraps(init)
    def resized(loader, dataset, size=1, *args, **kwargs):
        size = kwargs.pop("batch_size", size)
        if size is not None and kwargs.get("batch_sampler") is None:
            first = loaders.batch_size is None
            if first:
                loaders.batch_size = size
            if batch_size and size == loaders.batch_size:
                size = batch_size
            if first and hasattr(dataset, "__len__"):
                loaders.samples = len(dataset)
                if size > len(dataset):
                    notes.append(
                        f"the data set has only {len(dataset)} samples, so that a batch of {size} "
                        f"has {len(dataset)}"
                    )
        init(loader, dataset, size, *args, **kwargs)

    DataLoader.__init__ = resized
