"""torchvision's data sets and pretrained weights without numbers; nothing is downloaded or read."""

import sys

import numpy as np
import torch
import torchvision
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torchvision.datasets import VisionDataset
from torchvision.models import WeightsEnum
from torchvision.models.detection import roi_heads
from torchvision.ops import boxes

DATASETS = {  # name in torchvision: images for training, for testing, shape of one, classes
    "CIFAR10": (50_000, 10_000, (32, 32, 3), 10),
    "CIFAR100": (50_000, 10_000, (32, 32, 3), 100),
    "MNIST": (60_000, 10_000, (28, 28), 10),
    "FashionMNIST": (60_000, 10_000, (28, 28), 10),
}


class Blank:
    """A data set of black images of all classes in turn, with the length of the real one."""

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
        self.targets = [number % classes for number in range(count)]
        if len(shape) == 2:  # MNIST's are tensors, and know their classes
            with unset_fake_temporarily():  # labels are looked up, to choose samples by them
                self.data, self.targets = torch.from_numpy(self.data), torch.tensor(self.targets)
        else:
            self.classes = [str(number) for number in range(classes)]
            self.class_to_idx = {name: number for number, name in enumerate(self.classes)}


def install() -> None:
    """Give these to scripts from now on. Cannot be undone."""
    for name in DATASETS:
        original = getattr(torchvision.datasets, name)
        blank = type(name, (Blank, original), {"name": name})
        setattr(torchvision.datasets, name, blank)
        setattr(sys.modules[original.__module__], name, blank)
    _replace_weights()
    roi_heads.RoIHeads.subsample = _subsample
    boxes.batched_nms = _all_kept


def _subsample(heads: roi_heads.RoIHeads, labels: list[torch.Tensor]) -> list[torch.Tensor]:
    """As many of each image's boxes as a detection model trains on; which ones, is not known."""
    count = heads.fg_bg_sampler.batch_size_per_image
    return [torch.arange(min(len(one), count), device=one.device) for one in labels]


def _all_kept(boxes, scores, classes, threshold) -> torch.Tensor:
    """The boxes that are kept of those of all classes: as many as possible."""
    return torch.arange(len(boxes), device=boxes.device)


def _replace_weights() -> None:
    """Let pretrained weights have the shapes of the model that loads them, in float32."""
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
