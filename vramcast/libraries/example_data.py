"""Examples for data that is not here: `--example images:3x224x224 --classes 1000`, `tokens:512`."""

import io
import re

COUNT = 100_000  # images of an example's data set, of which a prediction needs one batch
MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's, by channels


class NotHere(Exception):
    """The folder of a data set does not exist, and no example was given for it."""


def read(text: str) -> tuple[int, ...]:
    """Channels, height, width of "images:3x224x224", or words of "tokens:512".

    Raises ValueError, with the two forms, if the text is neither.
    """
    found = re.fullmatch(r"images:(\d+)x(\d+)x(\d+)|tokens:(\d+)", text)
    shape = tuple(int(number) for number in found.groups() if number) if found else ()
    if not shape or 0 in shape or (len(shape) == 3 and shape[0] not in MODES):
        raise ValueError(
            f"{text!r} is no example: images:CHANNELSxHEIGHTxWIDTH, as images:3x224x224, or "
            "tokens:NUMBER, as tokens:512"
        )
    return shape


def image(shape: tuple[int, int, int]):
    """A black image (Pillow's) of these channels, height and width."""
    from PIL import Image  # which scripts with images have

    channels, height, width = shape
    return Image.new(MODES[channels], (width, height))


def picture(shape: tuple[int, int, int]) -> bytes:
    """A file with such an image."""
    file = io.BytesIO()
    image(shape).save(file, "png")
    return file.getvalue()
