"""torchvision's data sets without data: nothing is downloaded or read.

CIFAR and MNIST consist of black images, as many as in the real ones. Other data sets of images are
read if they are here, and else consist of the example (`--example images:3x224x224`).
"""

import inspect
import os
import sys
from types import ModuleType

import torch

from vramcast.compat import unset_fake_temporarily
from vramcast.libraries.context import Context
from vramcast.libraries.example_data import COUNT, NotHere, image
from vramcast.when_imported import when_imported

KNOWN = {  # name in torchvision: images for training, for testing, shape of one, classes
    "CIFAR10": (50_000, 10_000, (32, 32, 3), 10),
    "CIFAR100": (50_000, 10_000, (32, 32, 3), 100),
    "MNIST": (60_000, 10_000, (28, 28), 10),
    "FashionMNIST": (60_000, 10_000, (28, 28), 10),
}
CLASSES = (
    "ImageFolder",
    "ImageNet",
    "Food101",
    "Flowers102",
    "OxfordIIITPet",
    "StanfordCars",
    "DTD",
    "EuroSAT",
    "Country211",
    "FGVCAircraft",
    "GTSRB",
    "SUN397",
    "Caltech101",
    "Caltech256",
    "STL10",
    "SVHN",
    "Places365",
    "PCAM",
    "FER2013",
    "USPS",
)  # fmt: skip  data sets of images with a class each
MASKS = ("VOCSegmentation", "SBDataset")  # and those with a class for each point
FACES = {"CelebA": ((3, 218, 178), 40)}  # and those with attributes: size of the images, how many


def install(context: Context) -> None:
    """Replace the data sets as soon as torchvision is imported."""

    def datasets(module: ModuleType) -> None:
        blank(module)
        for name in (*CLASSES, *MASKS, *FACES):
            _replace(module, _or_example(getattr(module, name), context))

    when_imported("torchvision.datasets", datasets)


def blank(module: ModuleType) -> None:
    """Replace CIFAR and MNIST alone; `module` is torchvision.datasets."""
    for name in KNOWN:
        _replace(module, type(name, (_Blank, getattr(module, name)), {"name": name}))


def _replace(module: ModuleType, data_set: type) -> None:
    original = getattr(module, data_set.__name__)
    setattr(module, data_set.__name__, data_set)
    setattr(sys.modules[original.__module__], data_set.__name__, data_set)


class _Blank:
    """A data set of black images of all classes in turn, with the length of the real one."""

    def __init__(
        self, root=None, train=True, transform=None, target_transform=None, download=False
    ) -> None:
        _vision_dataset().__init__(
            self, root or "", transform=transform, target_transform=target_transform
        )
        for_training, for_testing, shape, classes = KNOWN[self.name]
        count = for_training if train else for_testing
        self.train = train
        self.targets = [number % classes for number in range(count)]
        if len(shape) == 2:  # MNIST's are tensors, and know their classes
            with unset_fake_temporarily():  # labels are looked up, to choose samples by them
                self.data = torch.zeros(count, *shape, dtype=torch.uint8)
                self.targets = torch.tensor(self.targets)
        else:
            import numpy as np  # which torchvision needs

            self.data = np.zeros((count, *shape), np.uint8)
            self.classes = [str(number) for number in range(classes)]
            self.class_to_idx = {name: number for number, name in enumerate(self.classes)}


def _vision_dataset() -> type:
    return sys.modules["torchvision.datasets"].VisionDataset


def _or_example(original: type, context: Context) -> type:
    """The data set, which consists of the example if its files are not here."""
    masks = original.__name__ in MASKS
    size, attributes = FACES.get(original.__name__, (None, 0))
    asked, classes, notes = context.options.example, context.options.classes, context.notes
    example = size or (asked and asked.image)

    class Images(original):
        blank = False

        def __init__(self, root, *args, **kwargs) -> None:
            try:
                super().__init__(root, *args, **kwargs)
                return
            except (OSError, RuntimeError):  # not here, and a prediction is offline
                pass
            name = f"{original.__name__} in {os.fspath(root)}"
            if example is None:
                raise NotHere(
                    f"there is no {name}. To predict without the images:  "
                    "--example images:3x224x224 --classes 1000"
                )
            given = inspect.signature(original).bind(root, *args, **kwargs).arguments
            if attributes and given.get("target_type", "attr") not in ("attr", ["attr"]):
                raise NotHere(f"there is no {name}, and what they say of faces has no stand-in")
            types = given.get("target_types", ())  # of OxfordIIITPet, which has both
            self.wanted = [types] if isinstance(types, str) else list(types)
            changes = ("transforms", "transform", "target_transform")
            _vision_dataset().__init__(self, root, **{key: given.get(key) for key in changes})
            self.blank = True
            self.classes = [str(number) for number in range(classes)]
            self.class_to_idx = {name: number for number, name in enumerate(self.classes)}
            self.targets = [number % classes for number in range(COUNT)]
            self.samples = self.imgs = [("", number) for number in self.targets]
            what = f"{attributes} attributes" if attributes else f"{classes} classes"
            told = f"{'x'.join(map(str, example))}, {COUNT:,} images of {what}"
            notes.append(f"in the place of {name}: {told}")

        def __len__(self) -> int:
            return COUNT if self.blank else super().__len__()

        def __getitem__(self, index: int):
            if not self.blank:
                return super().__getitem__(index)
            picture, target = image(example), self.targets[index]
            if masks or "segmentation" in self.wanted:  # a class for each of its points
                mask = image((1, *example[1:]))
            if masks:
                target = mask
            if "segmentation" in self.wanted:
                each = [mask if what == "segmentation" else target for what in self.wanted]
                target = each[0] if len(each) == 1 else tuple(each)
            if attributes:
                target = torch.zeros(attributes, dtype=torch.int64)
            if self.transforms is None:
                return picture, target
            return self.transforms(picture, target)

    Images.__name__ = Images.__qualname__ = original.__name__
    return Images
