"""Examples for data that is not here: `--example images:3x224x224,tokens:77 --classes 1000`."""

import io
import re
import wave

from vramcast.options import Example

COUNT = 100_000  # images of an example's data set, of which a prediction needs one batch
MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's, by channels
KINDS = re.compile(r"images:(\d+)x(\d+)x(\d+)|tokens:(\d+)|audio:(\d+)x(\d+)")


class NotHere(Exception):
    """The folder of a data set does not exist, and no example was given for it."""


def read(text: str) -> Example:
    """The example that a text describes, as "images:3x224x224,tokens:77".

    Raises ValueError, with the forms, if it is none.
    """
    found = [KINDS.fullmatch(part) for part in text.split(",")]
    numbers = [tuple(int(n) for n in one.groups() if n) for one in found if one]
    kinds = {len(sizes): sizes for sizes in numbers}  # three, one and two numbers
    image = kinds.get(3)
    wrong = len(kinds) < len(found) or any(0 in sizes for sizes in numbers)
    if wrong or (image and image[0] not in MODES):
        raise ValueError(
            f"{text!r} is no example: images:CHANNELSxHEIGHTxWIDTH, as images:3x224x224, "
            "tokens:NUMBER, as tokens:512, audio:RATExSECONDS, as audio:16000x10, or several of "
            "these, as images:3x512x512,tokens:77"
        )
    return Example(image, *kinds.get(1, (None,)), kinds.get(2))


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


def recording(rate: int, seconds: float) -> bytes:
    """A file (WAV, one channel of 16 bits) with silence of so many samples a second."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(bytes(2 * round(rate * seconds)))
    return file.getvalue()
