"""Data sets and pretrained weights by their shapes alone: nothing is downloaded or read."""

import numpy as np
import torch
import torchvision
from torch.utils.data import DataLoader
from torch.utils.data import dataloader as torch_dataloader
from torchvision.datasets import VisionDataset
from torchvision.models import WeightsEnum

from stand_ins.gpu import Gpu

QUIET = 2  # cycles of batches without a new peak, after which a loader ends


class Cifar10(torchvision.datasets.CIFAR10):
    """As many images as CIFAR-10 has, all black and of class 0 (zeros take no memory)."""

    def __init__(
        self, root=None, train=True, transform=None, target_transform=None, download=False
    ) -> None:
        VisionDataset.__init__(
            self, root or "", transform=transform, target_transform=target_transform
        )
        self.train = train
        count = 50_000 if train else 10_000
        self.data = np.zeros((count, 32, 32, 3), np.uint8)
        self.targets = [0] * count
        self.classes = [str(number) for number in range(10)]
        self.class_to_idx = {name: number for number, name in enumerate(self.classes)}


def install(mode: Gpu, peak) -> None:
    """Hand out shapes from now on. Cannot be undone.

    A loader gives its first batch again and again, and ends once `peak()` has stayed the same for
    two cycles: from one optimizer step to the next, or of one batch where none is taken.
    """
    torchvision.datasets.CIFAR10 = torchvision.datasets.cifar.CIFAR10 = Cifar10
    WeightsEnum.get_state_dict = lambda weights, *args, **kwargs: weights
    load = torch.nn.Module.load_state_dict

    def load_state_dict(module, state_dict, *args, **kwargs):
        if not isinstance(state_dict, WeightsEnum):
            return load(module, state_dict, *args, **kwargs)

    torch.nn.Module.load_state_dict = load_state_dict
    iterate = DataLoader.__iter__

    def batches(loader):
        loader.num_workers, loader.pin_memory = 0, False
        with torch._subclasses.fake_tensor.unset_fake_temporarily():
            first = next(iterate(loader))
        total, seen, quiet, steps = len(loader), None, 0, mode.tracker.steps
        stepped = False
        for _ in range(total):
            yield torch.utils._pytree.tree_map_only(torch.Tensor, fake, first)
            if mode.tracker.steps == steps and stepped:
                continue  # within a cycle
            stepped = stepped or mode.tracker.steps > steps
            steps = mode.tracker.steps
            quiet, seen = (quiet + 1, seen) if peak() == seen else (0, peak())
            if quiet == QUIET:
                return

    def fake(tensor):
        return torch.empty_like(tensor, device="cpu")

    DataLoader.__iter__ = batches
    torch_dataloader.DataLoader.__iter__ = batches
