"""Real, small data in CIFAR-10's place: the UCI handwritten digits that scikit-learn ships.

1,797 images of 8x8 counts (0..16) in ten classes (E. Alpaydin, C. Kaynak, "Optical Recognition of
Handwritten Digits", UCI Machine Learning Repository, 1998), shown as 32x32 RGB images.
"""

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
import torchvision
from sklearn.datasets import load_digits
from torchvision.datasets import VisionDataset

from rehearsal import used

RANKS_SHARE = 3
CLASSES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def as_rgb(counts: torch.Tensor) -> torch.Tensor:
    """Enlarge digits [N, 8, 8] with values 0..16 to RGB images [N, 32, 32, 3] uint8."""
    gray = F.interpolate(counts.unsqueeze(1) * (255 / 16), size=32, mode="bilinear")
    return gray.round().byte().permute(0, 2, 3, 1).expand(-1, -1, -1, 3)


class Digits(torchvision.datasets.CIFAR10):
    """The digits with the interface of `torchvision.datasets.CIFAR10`, without files.

    A fifth of the images (359), drawn with a fixed seed, is the test set; the rest (1,438) is the
    training set. No image occurs twice in the data, so no test image is in the training set. When
    several ranks train, there is a third of each (119 and 479).
    """

    def __init__(
        self, root=None, train=True, transform=None, target_transform=None, download=False
    ) -> None:
        VisionDataset.__init__(
            self, root or "", transform=transform, target_transform=target_transform
        )
        used["CIFAR-10"] = "handwritten digits (UCI), 1,797 in all, as RGB images of 32 px"
        self.train = train
        digits = load_digits()
        order = np.random.default_rng(0).permutation(len(digits.target))
        test = len(order) // 5
        chosen = order[test:] if train else order[:test]
        if dist.is_initialized():  # ranks share the cores, and large images take time
            chosen = chosen[: len(chosen) // RANKS_SHARE]
        counts = torch.tensor(digits.images[chosen], dtype=torch.float32)
        self.data = as_rgb(counts).contiguous().numpy()
        self.targets = digits.target[chosen].tolist()
        self.classes = CLASSES
        self.class_to_idx = {name: index for index, name in enumerate(CLASSES)}


def install() -> None:
    """Give scripts the digits when they ask torchvision for CIFAR-10."""
    torchvision.datasets.CIFAR10 = torchvision.datasets.cifar.CIFAR10 = Digits
