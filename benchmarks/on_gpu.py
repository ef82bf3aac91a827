"""Measured beside predicted, on a machine with a CUDA GPU, without data, weights or a network.

    python benchmarks/on_gpu.py                      all scripts of the ladder that can run here
    python benchmarks/on_gpu.py 03_bfloat16.py …     these

Each script runs unmodified and at full size, but on black images, with random weights, and for
BATCHES batches of each loader: more would not change its peak. The prediction is for the same GPU.
Rows are kept in results/local/on_gpu.json. GB are 1e9 bytes. Exit status: 0; 1 if a reserved or
allocated peak is off by more than LIMIT, or a script failed; 2 if nothing can be measured here.
"""

import argparse
import itertools
import json
import os
import runpy
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
import torchvision
from torch.utils.data import DataLoader

from ladder import rows
from ladder.rungs import ROOT, needs_bfloat16, several_gpus
from ladder.scripts import UnknownScript, display_name, find_scripts
from vramcast import gpus
from vramcast.libraries import torchvision_data, torchvision_models
from vramcast.options import Options
from vramcast.processes.supervisor import end_forkserver, start_forkserver
from vramcast.run.process import NoPrediction, predict

BATCHES = 48  # of each loader: some optimizer steps, also where twelve batches make one
LIMIT = 0.03
PEAKS = ("reserved_gb", "allocated_gb")
HEADING = (
    f"{'script':28s}  reserved: measured  predicted   error  allocated: measured  predicted   error"
)


def here() -> gpus.Model:
    """The GPU of this machine."""
    found = torch.cuda.get_device_properties(0)
    return replace(
        gpus.DEFAULT, name=found.name, memory=found.total_memory,
        capability=(found.major, found.minor), multiprocessors=found.multi_processor_count,
    )  # fmt: skip


def can_run(script: str, model: gpus.Model, count: int) -> bool:
    """Whether a script of the ladder can be measured on so many of these GPUs."""
    if script.startswith("bonus"):  # their tokenizers cannot be made up
        return False
    enough = count >= 2 or not several_gpus(script)
    return enough and (model.bfloat16 or not needs_bfloat16(script))


def run_few_batches(script: Path) -> None:
    """Run a script in this process, on black images, with random weights."""
    torchvision_data.blank(torchvision.datasets)
    torchvision_models.replace_weights(torchvision.models._api)
    iterate = DataLoader.__iter__
    DataLoader.__iter__ = lambda loader: itertools.islice(iterate(loader), BATCHES)
    sys.argv, sys.path[0] = [str(script)], str(script.parent)
    runpy.run_path(str(script), run_name="__main__")


def measure(script: Path) -> dict:
    """A script's record (see `local_utilities.Report`), or {"error": its last line}."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"RESULTS_DIR": folder, "PYTHONPATH": str(ROOT)}
        process = subprocess.run(
            [sys.executable, __file__, "--run", str(script)],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        record = Path(folder, "measured.jsonl")
        if process.returncode or not record.exists():
            return {"error": (process.stdout.strip().splitlines() or ["no output"])[-1]}
        return json.loads(record.read_text().splitlines()[-1])


def compare(measured: dict, predicted: dict) -> dict:
    """Both peaks, measured and predicted, and the error (0.03: predicted 3 % too high)."""
    row = {key: measured[key] for key in ("gpu", "gpus", "date", "versions")}
    for key in PEAKS:
        error = predicted[key] / measured[key] - 1
        row |= {key: measured[key], f"predicted_{key}": predicted[key], f"{key[:-3]}_error": error}
    return {"script": predicted["script"]} | row


def is_off(row: dict) -> bool:
    """Whether a row is a failure, or an error larger than LIMIT."""
    return "error" in row or any(abs(row[f"{key[:-3]}_error"]) > LIMIT for key in PEAKS)


def line(row: dict) -> str:
    """A row of the table."""
    name = f"{row['script'].rpartition('/')[2]:28s}"
    if "error" in row:
        return f"{name}  {row['error']}"
    cells = [
        f"{row[key]:18.2f}  {row[f'predicted_{key}']:9.2f}  {row[f'{key[:-3]}_error']:+6.1%}"
        for key in PEAKS
    ]
    return "  ".join([name, *cells]) + "  OFF" * is_off(row)


def one(script: Path, model: gpus.Model, count: int) -> dict:
    """Measure and predict a script."""
    name = display_name(script)
    measured = measure(script)
    if "error" in measured:
        return {"script": name, "error": measured["error"]}
    try:
        return compare(measured, predict(script, Options(gpu=model, gpus=count)))
    except NoPrediction as failure:
        return {"script": name, "error": f"no prediction: {failure.reason}"}


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure scripts beside their predictions.")
    parser.add_argument("script", nargs="*", help="a script; none: all that can run here")
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.run:
        run_few_batches(asked.run)
        return 0
    results = rows.LOCAL / "on_gpu.json"
    try:
        scripts = find_scripts(asked.script)
        rows.check(results)
    except (UnknownScript, ValueError) as error:
        parser.error(str(error))
    if not torch.cuda.is_available():
        parser.error("there is no CUDA GPU here. python -m vramcast needs none")
    model, count = here(), torch.cuda.device_count()
    if not asked.script:
        scripts = [script for script in scripts if can_run(display_name(script), model, count)]
    print(f"{count} × {model.name}, PyTorch {torch.__version__}\n{HEADING}", flush=True)
    found = []
    with patch.dict(os.environ, CUDA_VISIBLE_DEVICES=""):  # predictions are made without it
        start_forkserver("vramcast.run.script")
    try:
        for script in scripts:
            found.append(one(script, model, count))
            rows.keep(found[-1:], results)
            print(line(found[-1]), flush=True)
    except KeyboardInterrupt:
        print("\nStopped.")
        return 130
    finally:
        end_forkserver()
        print(f"Rows kept in {results}" if found else "No row was kept.")
    return int(any(map(is_off, found)))


if __name__ == "__main__":
    sys.exit(main())
