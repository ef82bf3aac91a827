"""Predictions from Python, for programs and notebooks.

from vramcast import predict
print(predict("train.py", gpu=24))
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from vramcast import functions
from vramcast import gpus as models
from vramcast.options import Options
from vramcast.prediction import Prediction

LARGEST = "largest"


class NotPredicted(Exception):
    """There is no prediction; the message says why, as the command line does."""


def predict(
    script: str | Path | Callable[[], object],
    gpu: str | float | None = None,
    arguments: Sequence[str] = (),
    batch_size: int | Literal["largest"] | None = None,
    gpus: int | None = None,
    techniques: Sequence[str] = (),
) -> Prediction:
    """Predict a script's peak memory on a GPU.

    `script`: its path, or a function that trains, as a notebook defines it: it is run as a script
    (see functions.py). `gpu`: a GPU's name or its GB, to learn whether the script fits.
    `arguments`: the script's command line. `batch_size`: in the place of the script's own;
    "largest": that fits the GPU, which is looked for. `gpus`: how many GPUs the script finds.
    `techniques`: as if the script used these (techniques/catalog.py), "checkpointing" say. The
    script runs in a process of its own, which takes some seconds.

    Raises NotPredicted if the question makes no sense, or nothing can be said about the script.
    """
    if batch_size == LARGEST and gpu is None:
        raise NotPredicted("the largest batch for which GPU? Name one: gpu=24")
    if gpu == "all":
        raise NotPredicted(
            "predict() is about one GPU. For all: vramcast SCRIPT --gpu all (with --json for a "
            "program), or predict() for each name in vramcast.gpus.KNOWN"
        )
    with tempfile.TemporaryDirectory(prefix="vramcast-") as folder:
        path, name = _path(script, Path(folder))
        step = Path(folder, "step.json")
        words = ["--json", str(path), "--timeline", str(step)]
        about = "--fits" if batch_size == LARGEST else "--gpu"
        words += [about, str(gpu)] if gpu is not None else []
        words += ["--batch-size", str(batch_size)] if batch_size not in (None, LARGEST) else []
        words += ["--gpus", str(gpus)] if gpus is not None else []
        words += ["--with", ",".join(techniques)] if techniques else []
        words += ["--", *map(str, arguments)] if arguments else []
        row = _asked(words)
        with contextlib.suppress(OSError, ValueError):
            row["timeline"] = json.loads(step.read_text())
    row["script"] = name or row["script"]
    if "error" in row:
        raise NotPredicted(f"{row['script']}: {row['error']}")
    model = models.DEFAULT if gpu is None else models.find(str(gpu))
    size = row["batch_size"] if batch_size == LARGEST else batch_size
    return Prediction.of(row, Options(model, batch_size=size, techniques=tuple(techniques)))


def _path(script: str | Path | Callable, folder: Path) -> tuple[Path, str]:
    """The script's path; of a function that of a new file in the folder, and the function's name.

    Raises NotPredicted if the function cannot be a script.
    """
    if not callable(script):
        return Path(script), ""
    try:
        text = functions.script_of(script)
    except ValueError as error:
        raise NotPredicted(str(error)) from None
    path = folder / f"{script.__name__}.py"
    path.write_text(text)
    return path, f"{script.__name__}()"


def _asked(words: list[str]) -> dict:
    """The command's answer. Raises NotPredicted if it has none."""
    place = str(Path(__file__).resolve().parents[1])  # where this package is, also in a clone
    here = os.getcwd()  # where a notebook's own modules are
    path = os.pathsep.join(filter(None, (place, os.environ.get("PYTHONPATH"), here)))
    process = subprocess.run(
        [sys.executable, "-m", "vramcast", *words],
        env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True,
    )  # fmt: skip
    try:
        return json.loads(process.stdout)
    except ValueError:
        raise NotPredicted(process.stderr.strip()) from None
