"""Data that is not here: `--example images:3x224x224 --classes 1000` or `tokens:512` stands in."""

import io
import os
import re
import sys

import torchvision
from PIL import Image
from torchvision.datasets import VisionDataset

COUNT = 100_000  # images, of which a prediction needs one batch
MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's, by channels


class NotHere(Exception):
    """A data set's folder does not exist, and no example stands in for it."""


def read(text: str) -> tuple[int, ...]:
    """Channels, height and width of "images:3x224x224", the words of "tokens:512"; ValueError."""
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
    """The same as a file."""
    file = io.BytesIO()
    image(shape).save(file, "png")
    return file.getvalue()


def install(example: tuple[int, ...] | None, classes: int, notes: list[str]) -> None:
    """Let folders that exist be read, and others be the example. Cannot be undone."""
    for name in ("ImageFolder", "ImageNet"):
        original = getattr(torchvision.datasets, name)
        known = type(name, (_stand_in(original, example, classes, notes),), {})
        setattr(torchvision.datasets, name, known)
        setattr(sys.modules[original.__module__], name, known)


def _stand_in(original: type, example, classes: int, notes: list[str]) -> type:
    class Folder(original):
        def __init__(self, root, *args, transform=None, target_transform=None, **kwargs) -> None:
            if args and callable(args[0]):  # as ImageFolder takes it
                transform, *args = args
            if os.path.isdir(root):
                kwargs |= {"transform": transform, "target_transform": target_transform}
                super().__init__(root, *args, **kwargs)
                return
            if example is None or len(example) != 3:
                raise NotHere(
                    f"there is no folder {os.fspath(root)}. To predict without the images:  "
                    "--example images:3x224x224 --classes 1000"
                )
            VisionDataset.__init__(
                self, root, transform=transform, target_transform=target_transform
            )
            self.classes = [str(number) for number in range(classes)]
            self.class_to_idx = {name: number for number, name in enumerate(self.classes)}
            self.samples = self.imgs = [("", 0)] * COUNT
            self.targets = [0] * COUNT
            self.loader = lambda path: image(example)
            told = f"{'x'.join(map(str, example))}, {COUNT:,} images of {classes} classes"
            notes.append(f"in the place of {os.fspath(root)}: {told}")

    return Folder
