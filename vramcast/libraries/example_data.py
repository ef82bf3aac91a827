"""Examples for data that is not here: `--example images:3x224x224 --classes 1000`, `tokens:512`."""

import inspect
import io
import os
import re
import sys

import torchvision
from PIL import Image
from torchvision.datasets import VisionDataset

COUNT = 100_000  # images, of which a prediction needs one batch
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
)  # fmt: skip  torchvision's data sets of images with a class each
MASKS = ("VOCSegmentation", "SBDataset")  # and those with a class for each point
MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's, by channels


class NotHere(Exception):
    """The folder of a data set does not exist, and no example was given for it."""


def read(text: str) -> tuple[int, ...]:
    """Channels, height, width of "images:3x224x224", or words of "tokens:512"; ValueError."""
    found = re.fullmatch(r"images:(\d+)x(\d+)x(\d+)|tokens:(\d+)", text)
    shape = tuple(int(number) for number in found.groups() if number) if found else ()
    if not shape or 0 in shape or (len(shape) == 3 and shape[0] not in MODES):
        raise ValueError(
            f"{text!r} is no example: images:CHANNELSxHEIGHTxWIDTH, as images:3x224x224, or "
            "tokens:NUMBER, as tokens:512"
        )
    return shape


def image(shape: tuple[int, int, int]) -> Image.Image:
    """A black image of these channels, height and width."""
    channels, height, width = shape
    return Image.new(MODES[channels], (width, height))


def picture(shape: tuple[int, int, int]) -> bytes:
    """A file with such an image."""
    file = io.BytesIO()
    image(shape).save(file, "png")
    return file.getvalue()


def install(example: tuple[int, ...] | None, classes: int, notes: list[str]) -> None:
    """Let data sets of images be read if they are here, and else consist of the example.

    Cannot be undone.
    """
    for name in CLASSES + MASKS:
        original = getattr(torchvision.datasets, name)
        known = type(name, (_stand_in(original, example, classes, notes),), {})
        setattr(torchvision.datasets, name, known)
        setattr(sys.modules[original.__module__], name, known)


def _stand_in(original: type, example, classes: int, notes: list[str]) -> type:
    masks = original.__name__ in MASKS

    class Images(original):
        blank = False

        def __init__(self, root, *args, **kwargs) -> None:
            try:
                super().__init__(root, *args, **kwargs)
                return
            except (OSError, RuntimeError):  # not here, and a prediction is offline
                pass
            name = f"{original.__name__} in {os.fspath(root)}"
            if example is None or len(example) != 3:
                raise NotHere(
                    f"there is no {name}. To predict without the images:  "
                    "--example images:3x224x224 --classes 1000"
                )
            given = inspect.signature(original).bind(root, *args, **kwargs).arguments
            changes = ("transforms", "transform", "target_transform")
            VisionDataset.__init__(self, root, **{key: given.get(key) for key in changes})
            self.blank = True
            self.classes = [str(number) for number in range(classes)]
            self.class_to_idx = {name: number for number, name in enumerate(self.classes)}
            self.targets = [number % classes for number in range(COUNT)]
            self.samples = self.imgs = [("", number) for number in self.targets]
            told = f"{'x'.join(map(str, example))}, {COUNT:,} images of {classes} classes"
            notes.append(f"in the place of {name}: {told}")

        def __len__(self) -> int:
            return COUNT if self.blank else super().__len__()

        def __getitem__(self, index: int):
            if not self.blank:
                return super().__getitem__(index)
            picture, target = image(example), self.targets[index]
            if masks:  # of the same size, with a class for each of its points
                target = image((1, *example[1:]))
            if self.transforms is None:
                return picture, target
            return self.transforms(picture, target)

    return Images
