"""Data sets of the Hugging Face hub by their shapes."""

import io
import os
import wave
from types import ModuleType

from vramcast.libraries.context import Context
from vramcast.libraries.example_data import NotHere, picture, recording
from vramcast.options import Example
from vramcast.when_imported import when_imported

ROWS = 512  # of which a prediction needs one batch
FILM, WORD = "a film ", "word "
STAND_INS = (FILM, WORD)  # what texts begin with that stand in for others
LONG = FILM * 4096  # more than any of the models in model_sizes.py that read it whole
CLASSES = {"label": 2}
NAMES = {"image": ("image", "img", "picture", "photo"), "audio": ("audio", "speech", "sound")}
SOUND = "example.wav"  # the name of the file that stands in for sound
NUMBER = 0  # in the place of a number of classes: the column has numbers
# Columns by the name on the hub: texts, and classes with their number. From the sets' cards.
COLUMNS = {
    "imdb": ({"text"}, CLASSES),
    "rotten_tomatoes": ({"text"}, CLASSES),
    "yelp_polarity": ({"text"}, CLASSES),
    "ag_news": ({"text"}, {"label": 4}),
    "yelp_review_full": ({"text"}, {"label": 5}),
    "emotion": ({"text"}, {"label": 6}),
    "wikitext": ({"text"}, {}),
    "openwebtext": ({"text"}, {}),
    "alpaca": ({"instruction", "input", "output", "text"}, {}),
    "alpaca-cleaned": ({"instruction", "input", "output"}, {}),
    "cnn_dailymail": ({"article", "highlights", "id"}, {}),
    "xsum": ({"document", "summary", "id"}, {}),
    "stsb": ({"sentence1", "sentence2"}, {"score": NUMBER}),
    "all-nli": ({"premise", "hypothesis"}, {"label": 3}),
    "samsum": ({"dialogue", "summary", "id"}, {}),
    "ultrafeedback_binarized": ({"chosen", "rejected"}, {}),
    "cola": ({"sentence"}, CLASSES | {"idx": ROWS}),
    "sst2": ({"sentence"}, CLASSES | {"idx": ROWS}),
    "mrpc": ({"sentence1", "sentence2"}, CLASSES | {"idx": ROWS}),
    "rte": ({"sentence1", "sentence2"}, CLASSES | {"idx": ROWS}),
    "qqp": ({"question1", "question2"}, CLASSES | {"idx": ROWS}),
    "qnli": ({"question", "sentence"}, CLASSES | {"idx": ROWS}),
    "mnli": ({"premise", "hypothesis"}, {"label": 3, "idx": ROWS}),
    "cifar10": ({"img"}, {"label": 10}),
    "cifar100": ({"img"}, {"fine_label": 100, "coarse_label": 20}),
    "mnist": ({"image"}, {"label": 10}),
    "food101": ({"image"}, {"label": 101}),
    "beans": ({"image"}, {"labels": 3}),
    "cats_vs_dogs": ({"image"}, {"labels": 2}),
    "imagenet-1k": ({"image"}, {"label": 1000}),
}
FORMATS = ("csv", "json", "text", "parquet", "imagefolder", "arrow", "pandas")
SIZES = {"cifar10": (3, 32, 32), "cifar100": (3, 32, 32), "mnist": (1, 28, 28)}  # of the images


def install(context: Context) -> None:
    """Replace what `datasets` would load from the hub.

    `--columns` are the names that the example's columns get, if the data set is not one of those
    known here. A column called "label…" has classes, one called as "image" or "audio" those if the
    example has some, and the others have texts.
    """

    def loading(module: ModuleType) -> None:
        original = module.load_dataset

        def load_dataset(path, name=None, *args, split=None, streaming=False, **options):
            if path in FORMATS or os.path.exists(path):  # files that are here
                return original(path, name, *args, split=split, streaming=streaming, **options)
            made = _rows(path, name, context)
            parts = dict.fromkeys(("train", "validation", "test"), made)
            if name == "mnli":
                parts |= {f"{part}_matched": made for part in ("validation", "test")}
            return _split(parts, split, streaming)

        module.load_dataset = load_dataset

    def package(module: ModuleType) -> None:  # which may have it from before
        if hasattr(module, "load_dataset"):  # and is no module of the script's by this name
            module.load_dataset = module.load.load_dataset

    when_imported("datasets.load", loading)
    when_imported("datasets.features.audio", _sound)
    when_imported("datasets", package)


def _rows(path: str, name: str | None, context: Context):
    """A data set of ROWS equal rows, with the columns of the set that it stands in for."""
    from datasets import ClassLabel, Dataset, Features, Value

    asked, classes, named = (
        context.options.example, context.options.classes, context.options.columns
    )  # fmt: skip
    key = next((word for word in (name, path.rpartition("/")[2]) if word in COLUMNS), None)
    example = Example(image=SIZES[key]) if key in SIZES else asked
    if example is None and key != "imdb":
        raise NotHere(
            f"the data set {path} is not here. To predict without it:  --example tokens:256 (words "
            "of a text), images:3x224x224 with --classes 10, audio:16000x10, or several of these "
            "(images:3x512x512,tokens:77)"
        )
    if example is not None:
        context.notes.append(f"in the place of the data set {path}: {example.told()}, {ROWS} rows")
    contents = _contents(example)
    columns, labels = COLUMNS.get(key, (list(contents), {"label": classes}))
    if named:
        labels = {column: classes for column in named if column.startswith("label")}
        columns = [column for column in named if column not in labels]
    kinds = {column: contents[_kind(column, contents)] for column in columns}
    features = {column: feature for column, (feature, _) in kinds.items()}
    many = {column: [value] * ROWS for column, (_, value) in kinds.items()}
    features |= {
        column: ClassLabel(number) if number else Value("float32")
        for column, number in labels.items()
    }
    many |= {
        column: [n % number if number else 0.5 for n in range(ROWS)]
        for column, number in labels.items()
    }
    return Dataset.from_dict(many, features=Features(features))


def _contents(example: Example | None) -> dict[str, tuple]:
    """The parts of a sample by the names of their columns: the column's type, and what it holds."""
    from datasets import Audio, Image, Value

    if example is None:
        return {"text": (Value("string"), LONG)}
    found = {}
    if example.image:
        found["image"] = Image(), {"bytes": picture(example.image), "path": None}
    if example.audio:
        found["audio"] = (
            Audio(example.audio[0]),
            {"bytes": recording(*example.audio), "path": SOUND},
        )
    if example.words:
        found["text"] = Value("string"), WORD * example.words
    return found


def _kind(column: str, contents: dict[str, tuple]) -> str:
    """Which part of a sample a column has: text, if its name does not say otherwise."""
    words = column.lower()
    named = (kind for kind, names in NAMES.items() if any(name in words for name in names))
    return next((kind for kind in (*named, "text") if kind in contents), next(iter(contents)))


def _sound(module: ModuleType) -> None:
    """Keep the stand-in for sound, and decode it as silence: torchcodec need not be here.

    It returns a dictionary, as `datasets` 3 does; what newer versions return can be asked alike.
    """
    encode, decode = module.Audio.encode_example, module.Audio.decode_example

    def stands_in(value) -> bool:
        return isinstance(value, dict) and value.get("path") == SOUND

    def encode_example(audio, value):
        return dict(value) if stands_in(value) else encode(audio, value)

    def decode_example(audio, value, *args, **options):
        if not stands_in(value):
            return decode(audio, value, *args, **options)
        import numpy as np  # which datasets needs

        with wave.open(io.BytesIO(value["bytes"])) as file:
            count, rate = file.getnframes(), file.getframerate()
        wanted = audio.sampling_rate or rate
        silence = np.zeros(count * wanted // rate, np.float32)
        return {"path": SOUND, "array": silence, "sampling_rate": wanted}

    module.Audio.encode_example, module.Audio.decode_example = encode_example, decode_example


def _split(parts: dict, split: str | None, streaming: bool):
    """All parts of a data set, or the named one; a slice such as "train[:10%]" is not shortened."""
    from datasets import DatasetDict

    if streaming:
        parts = {part: rows.to_iterable_dataset() for part, rows in parts.items()}
    if split is None:
        return dict(parts) if streaming else DatasetDict(parts)
    if isinstance(split, list):
        return [_split(parts, one, False) for one in split]
    return parts[str(split).partition("[")[0].partition("+")[0]]
