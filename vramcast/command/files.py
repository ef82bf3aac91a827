"""The files that a prediction writes if asked to: pictures and snapshots of a training step."""

import base64
import importlib.util
import io
import json
import os
import pickle
from collections.abc import Iterable
from pathlib import Path

FIGURES = ".json"  # the ending of a file with a step's figures in the place of a picture


def check(timeline: Path | None, snapshot: Path | None) -> None:
    """Look whether the files can be written, before long work. Raises ValueError if not."""
    if timeline and timeline.suffix.lower() == FIGURES:
        check_file(timeline, (FIGURES,))
    elif timeline:
        if importlib.util.find_spec("matplotlib") is None:
            raise ValueError(
                "--timeline needs matplotlib:  pip install matplotlib (or FILE.json, for figures)"
            )
        from vramcast.command import pictures  # takes a second

        check_file(timeline, [*(f".{kind}" for kind in pictures.formats()), FIGURES])
    if snapshot:
        check_file(snapshot, (".pickle",))


def check_file(path: Path, endings: Iterable[str]) -> None:
    """Look whether a file with one of these endings can be written. Raises ValueError if not."""
    if path.suffix.lower() not in endings:
        raise ValueError(f"{path.name} has to end in one of: {', '.join(endings)}")
    folder = path.absolute().parent
    if not os.access(folder, os.W_OK) or path.is_dir():
        raise ValueError(f"{path} cannot be written: is there such a folder, and is it yours?")


class _DataOnly(pickle.Unpickler):
    """Reads a pickle of numbers, texts and their containers; nothing that it names is called."""

    def find_class(self, module: str, name: str) -> object:
        raise pickle.UnpicklingError(f"it is more than data: it names {module}.{name}")


def data(encoded: str) -> bytes:
    """The pickle in a text of base64. Raises ValueError if it is more than data, or none.

    A script's process has made it, and those who open it may do so with `pickle.load`.
    """
    content = base64.b64decode(encoded)
    try:
        _DataOnly(io.BytesIO(content)).load()
    except Exception as error:  # of many kinds
        raise ValueError(f"what the script's process left is no snapshot ({error})") from None
    return content


def write(row: dict, timeline: Path | None, snapshot: Path | None) -> None:
    """Write the files that were asked for; notes in the row name them, or say why there is none."""
    if timeline and timeline.suffix.lower() == FIGURES:
        try:
            timeline.write_text(json.dumps(row["timeline"]))
        except OSError as error:
            row["notes"].append(f"{timeline} was not written: {error}")
    elif timeline:
        from vramcast.command import pictures

        if row["timeline"]:
            row["notes"] += [
                f"the step's peak, {row['timeline']['peak']['bytes'] / 1e9:.2f} GB: "
                f"{row['timeline']['peak']['phase']}, {pictures.whose(row['timeline']['peak'])}",
                *(
                    f"activations held then: {pictures.share(group)}"
                    for group in row["timeline"]["activations"]
                ),
            ]
        note = f"one step's memory is drawn in {timeline}"
        try:
            pictures.timeline(row["timeline"], row["script"], timeline)
        except (ValueError, OSError) as error:
            note = f"{timeline} was not drawn: {error}"
        row["notes"].append(note)
    if snapshot:
        note = f"the memory's history is in {snapshot}, for pytorch.org/memory_viz"
        try:
            snapshot.write_bytes(data(row["snapshot"]))
        except (ValueError, OSError) as error:
            note = f"{snapshot} was not written: {error}"
        row["notes"].append(note)
