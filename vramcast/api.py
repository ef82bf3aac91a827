"""Predictions from Python, for programs and notebooks.

from vramcast import predict
print(predict("train.py", gpu=24))
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from vramcast import gpus as models
from vramcast.options import Options
from vramcast.prediction import Prediction


class NotPredicted(Exception):
    """There is no prediction; the message says why, as the command line does."""


def predict(
    script: str | Path,
    gpu: str | float | None = None,
    arguments: Sequence[str] = (),
    batch_size: int | None = None,
    gpus: int | None = None,
    techniques: Sequence[str] = (),
) -> Prediction:
    """Predict a script's peak memory on a GPU.

    `gpu`: a GPU's name or its GB, to learn whether the script fits. `arguments`: the script's
    command line. `batch_size`: in the place of the script's own. `gpus`: how many GPUs the script
    finds. `techniques`: as if the script used these (techniques/catalog.py), "checkpointing" say.
    The script runs in a process of its own, which takes some seconds.

    Raises NotPredicted if the question makes no sense, or nothing can be said about the script.
    """
    words = ["--json", str(script)]
    words += ["--gpu", str(gpu)] if gpu is not None else []
    words += ["--batch-size", str(batch_size)] if batch_size is not None else []
    words += ["--gpus", str(gpus)] if gpus is not None else []
    words += ["--with", ",".join(techniques)] if techniques else []
    words += ["--", *map(str, arguments)] if arguments else []
    place = str(Path(__file__).resolve().parents[1])  # where this package is, also in a clone
    path = os.pathsep.join(filter(None, (place, os.environ.get("PYTHONPATH"))))
    process = subprocess.run(
        [sys.executable, "-m", "vramcast", *words],
        env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True,
    )  # fmt: skip
    try:
        row = json.loads(process.stdout)
    except ValueError:
        raise NotPredicted(process.stderr.strip()) from None
    if "error" in row:
        raise NotPredicted(f"{row['script']}: {row['error']}")
    model = models.DEFAULT if gpu is None else models.find(str(gpu))
    return Prediction.of(row, Options(model, batch_size=batch_size, techniques=tuple(techniques)))
