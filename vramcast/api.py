"""Predictions from Python, for programs and notebooks.

from vramcast import predict
print(predict("train.py", gpu=24))
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

COMMAND = Path(__file__).resolve().parent.parent / "predict_memory.py"


class NotPredicted(Exception):
    """Nothing can be said about a script; the message says why."""


class Prediction(dict):
    """The figures of `predict_memory.py --json`, in GB (1e9 bytes); `print` shows them in words."""

    def __init__(self, row: dict, gpu: str | None) -> None:
        super().__init__(row)
        self._gpu = gpu

    def __str__(self) -> str:
        from vramcast import gpus
        from vramcast.command import report as answers
        from vramcast.options import Options

        options = Options(gpus.find(self._gpu) if self._gpu else gpus.DEFAULT)
        lines = [f"  {line}" for line in answers.details(self, options)]
        kinds = ", ".join(f"{kind} {size:.2f}" for kind, size in self["breakdown_gb"].items())
        return "\n".join([answers.answer(self, options), *lines, f"  split: {kinds} GB"])


def predict(
    script: str | Path,
    gpu: str | float | None = None,
    arguments: Sequence[str] = (),
    batch_size: int | None = None,
    gpus: int | None = None,
) -> Prediction:
    """Predict a script's peak memory; NotPredicted.

    `gpu`: a GPU's name or its GB, to learn whether the script fits. `arguments`: the script's
    command line. `batch_size`: in the place of the script's own. `gpus`: how many GPUs the script
    finds. The script runs in a process of its own, which takes some seconds.
    """
    words = ["--json", str(script), *(["--gpus", str(gpus)] if gpus else [])]
    words += ["--gpu", str(gpu)] if gpu is not None else []
    words += ["--batch-size", str(batch_size)] if batch_size is not None else []
    words += ["--", *map(str, arguments)] if arguments else []
    process = subprocess.run([sys.executable, COMMAND, *words], capture_output=True, text=True)
    try:
        row = json.loads(process.stdout)
    except ValueError:
        raise NotPredicted(process.stderr.strip()) from None
    if "error" in row:
        raise NotPredicted(f"{row['script']}: {row['error']}")
    return Prediction(row, None if gpu is None else str(gpu))
