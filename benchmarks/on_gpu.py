"""Measured beside predicted, on a machine with a CUDA GPU, without data, weights or a network.

    python benchmarks/on_gpu.py                      what can run here, the most telling first
    python benchmarks/on_gpu.py 03_bfloat16.py …     these
    python benchmarks/on_gpu.py --carry FOLDER       on another machine: fetch packages to take
    python benchmarks/on_gpu.py --packages FOLDER    with these

Each script runs unmodified and at full size, but on black images, with random weights, and for
BATCHES batches of each loader: more would not change its peak. The prediction, for the same GPU and
the same PyTorch, is made while the next script runs. A row is printed and kept in
results/local/on_gpu.json as soon as it is known, so that nothing is lost when the time is over.

What is needed: torch and torchvision, and the packages that a script imports. A machine where
nothing can be installed takes those of `--carry` (wheels of Python code for the most part, for its
Python and system), which are unpacked into a temporary folder. What is still missing is said, and
the scripts that need it are passed over.

GB are 1e9 bytes. Exit status: 0; 1 if a reserved or allocated peak is off by more than LIMIT, or a
script failed; 2 if nothing can be measured here.
"""

import argparse
import importlib.metadata
import importlib.util
import itertools
import json
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ladder import rows
from ladder.rungs import ROOT, needs_bfloat16, read_ladder, several_gpus
from ladder.scripts import UnknownScript, display_name, find_scripts
from vramcast import gpus
from vramcast.options import Options
from vramcast.processes.supervisor import end_all, end_forkserver, start_forkserver
from vramcast.run.process import NoPrediction, predict
from vramcast.run.source import imported

BATCHES = 26  # of each loader: two optimizer steps, also where twelve batches make one
LIMIT = 0.03
PEAKS = ("reserved_gb", "allocated_gb")
# What a measurement says most about: precision, activations, the allocator, then the rest.
FIRST = (
    "03", "01", "11", "04", "12", "02", "16", "05", "14-3", "13", "06", "15", "14", "16-2", "04-2",
    "02-2", "06-2", "11-2", "11-3", "14-2", "14-4", "15-2", "16-3", "08", "08-2", "07",
    "07-2",
)  # fmt: skip
# What the scripts import besides torch and torchvision, with what these need in turn.
CARRIED = (
    "lightning==2.6.6", "lightning-utilities", "torchmetrics", "packaging", "PyYAML", "fsspec",
    "tqdm", "typing_extensions", "rich", "markdown-it-py", "mdurl", "pygments", "filelock",
    "torchao==0.18.0", "bitsandbytes", "peft", "accelerate", "psutil",
)  # fmt: skip
HEADING = (
    f"{'script':28s}  reserved: measured  predicted   error  allocated: measured  predicted   error"
)
# In the place of the package watermark, which needs IPython: what local_utilities.py asks of it.
WATERMARK = """
import importlib.metadata, platform

def watermark(packages="", python=False):
    lines = [f"Python {platform.python_version()}"]
    lines += [f"{name} {importlib.metadata.version(name)}" for name in packages.split(",") if name]
    return "\\n".join(lines)
"""


def here() -> gpus.Model:
    """The GPU of this machine."""
    import torch

    found = torch.cuda.get_device_properties(0)
    try:
        return replace(gpus.find(found.name), name=found.name, memory=found.total_memory)
    except ValueError:  # a kind that is not known
        return replace(
            gpus.DEFAULT, name=found.name, memory=found.total_memory,
            capability=(found.major, found.minor), multiprocessors=found.multi_processor_count,
            assumed="the rates, and what cuDNN is told of it, are an A100's",
        )  # fmt: skip


def missing(script: str) -> list[str]:
    """The packages that a script of the ladder imports and that are not here."""
    names = imported((ROOT / script).read_bytes()) | imported(
        (ROOT / "local_utilities.py").read_bytes()
    )
    return sorted(name for name in names if importlib.util.find_spec(name) is None)


def can_run(script: str, model: gpus.Model, count: int) -> bool:
    """Whether a script of the ladder can be measured on so many of these GPUs."""
    if script.startswith("bonus"):  # their tokenizers cannot be made up
        return False
    enough = count >= 2 or not several_gpus(script)
    return enough and (model.bfloat16 or not needs_bfloat16(script))


def in_order_of_value() -> list[str]:
    """The ladder's scripts: those of FIRST, then the others."""
    scripts = [rung.script for rung in read_ladder()]

    def place(script: str) -> int:
        number = Path(script).name.partition("_")[0]
        return FIRST.index(number) if number in FIRST else len(FIRST)

    return sorted(scripts, key=place)


def run_few_batches(script: Path) -> None:
    """Run a script in this process, on black images, with random weights."""
    import torchvision
    from torch.utils.data import DataLoader

    from vramcast.libraries import torchvision_data, torchvision_models

    torchvision_data.blank(torchvision.datasets)
    torchvision_models.replace_weights(torchvision.models._api)
    iterate = DataLoader.__iter__
    DataLoader.__iter__ = lambda loader: itertools.islice(iterate(loader), BATCHES)
    sys.argv, sys.path[0] = [str(script)], str(script.parent)
    runpy.run_path(str(script), run_name="__main__")


def measure(script: Path) -> dict:
    """A script's record (see `local_utilities.Report`), or {"error": its last line}."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        environment = os.environ | {"RESULTS_DIR": folder, "PYTHONPATH": path}
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


def joined(script: Path, measured: dict, prediction: Future) -> dict:
    """A script's row; waits for the prediction. What is measured stays if there is none."""
    name = display_name(script)
    if "error" in measured:
        return {"script": name, "error": measured["error"]}
    try:
        return compare(measured, prediction.result() | {"script": name})
    except NoPrediction as failure:
        return measured | {"script": name, "error": f"no prediction: {failure.reason}"}


def all_rows(scripts: list[Path], model: gpus.Model, count: int, results: Path) -> list[dict]:
    """Measure one script after the other, and predict each meanwhile; rows as they come."""
    found, options = [], Options(gpu=model, gpus=count)
    with ThreadPoolExecutor(2) as pool:
        waiting = {script: pool.submit(predict, script, options) for script in scripts}
        try:
            for script in scripts:
                measured = measure(script)
                if "error" not in measured:  # kept before the prediction is there
                    rows.keep([measured | {"script": display_name(script)}], results)
                found.append(joined(script, measured, waiting[script]))
                rows.keep(found[-1:], results)
                print(line(found[-1]), flush=True)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            end_all()
            raise
    return found


def carry(folder: Path) -> int:
    """Fetch the packages of CARRIED as wheels; pip's exit status."""
    print(f"Wheels for Python 3.12 on Linux (x86_64), into {folder}")
    return subprocess.call(
        [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:",
         "--python-version", "3.12", "--implementation", "cp", "--abi", "cp312", "--abi", "abi3",
         "--abi", "none", "--platform", "manylinux_2_28_x86_64", "--platform",
         "manylinux_2_24_x86_64", "--platform", "manylinux_2_17_x86_64", "--platform", "any",
         "-d", str(folder), *CARRIED]
    )  # fmt: skip


def unpack(folder: Path, target: Path) -> None:
    """Make carried wheels importable here, as far as they are not, and in processes from here."""
    for wheel in sorted(folder.glob("*.whl")):
        name = wheel.name.partition("-")[0].replace("_", "-")
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            shutil.unpack_archive(wheel, target, "zip")
    if importlib.util.find_spec("watermark") is None:
        (target / "watermark.py").write_text(WATERMARK)
    sys.path.append(str(target))
    path = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (path, str(target))))
    importlib.invalidate_caches()


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure scripts beside their predictions.")
    parser.add_argument("script", nargs="*", help="a script; none: all that can run here")
    parser.add_argument("--carry", type=Path, metavar="FOLDER", help="fetch packages to take along")
    parser.add_argument("--packages", type=Path, metavar="FOLDER", help="use packages from there")
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.run:
        run_few_batches(asked.run)
        return 0
    if asked.carry:
        return carry(asked.carry)
    results = rows.LOCAL / "on_gpu.json"
    try:
        scripts = find_scripts(asked.script or in_order_of_value())
        rows.check(results)
    except (UnknownScript, ValueError) as error:
        parser.error(str(error))
    import torch

    if not torch.cuda.is_available():
        parser.error("there is no CUDA GPU here. python -m vramcast needs none")
    model, count = here(), torch.cuda.device_count()
    if not asked.script:
        scripts = [script for script in scripts if can_run(display_name(script), model, count)]
    with tempfile.TemporaryDirectory() as folder:
        if asked.packages:
            unpack(asked.packages, Path(folder))
        for script in list(scripts):
            if absent := missing(display_name(script)):
                print(f"passed over: {script.name}, which needs {', '.join(absent)}")
                scripts.remove(script)
        print(f"{count} × {model.name}, PyTorch {torch.__version__}\n{HEADING}", flush=True)
        with patch.dict(os.environ, CUDA_VISIBLE_DEVICES=""):  # predictions are made without it
            start_forkserver("torchvision", "lightning", "torchmetrics", "vramcast.run.script")
        try:
            found = all_rows(scripts, model, count, results)
        except KeyboardInterrupt:
            print("\nStopped.")
            return 130
        finally:
            end_forkserver()
            print(f"Rows kept in {results}")
    return int(not found or any(map(is_off, found)))


if __name__ == "__main__":
    sys.exit(main())
