"""The same predictions in several versions of PyTorch: python -m benchmarks.versions

Each version gets a new environment in a temporary folder (several GB and some minutes), which is
removed at the end; `--environment 2.9.1=FOLDER` takes one that is there. Each row is kept in
results/versions.json as soon as it is known: {"script", "torch", "torchvision", "reserved_gb",
"allocated_gb"}, or "error" in the place of the figures. GB are 1e9 bytes. Exit status: 0; 1 if a
script has no prediction; 130 after Ctrl-C.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from ladder import rows
from ladder.rungs import ROOT
from vramcast.processes.supervisor import write_json

RESULTS = ROOT / "results" / "versions.json"
VERSIONS = {"2.9.1": "0.24.1", "2.11.0": "0.26.0", "2.15.0": "0.29.2"}  # torch: torchvision
EXTRAS = ("scripts", "lora", "torchao")  # of pyproject.toml: what the scripts below import
SCRIPTS = (
    "01_pytorch-fp32.py",
    "02_mixed-precision.py",
    "03_bfloat16.py",
    "08-10-vit-h14/08b_fsdp-custom.py",
    "08-10-vit-h14/09-2_fsdp2-act-checkp.py",
    "11-16-under-1gb/12_optimizer-in-backward.py",
    "11-16-under-1gb/14-3_activation-offload.py",
    "11-16-under-1gb/16_qlora.py",
)


def packages(version: str) -> list[str]:
    """What pip has to install for a version of PyTorch: all else as pinned in pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    pinned = [package for extra in EXTRAS for package in extras[extra]]
    others = [p for p in pinned if not p.startswith(("torch==", "torchvision==", "vramcast["))]
    return [f"torch=={version}", f"torchvision=={VERSIONS[version]}", *others, "rich"]


def make_environment(version: str, folder: Path) -> Path:
    """An environment with a version of PyTorch; the folder that it is in.

    Raises CalledProcessError if it cannot be made.
    """
    print(f"{version}: making an environment in {folder} …", flush=True)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-cache-dir"]
    subprocess.run([*pip, *packages(version)], check=True)
    return folder


def predict(script: str, version: str, environment: Path) -> dict:
    """The row of a script in an environment."""
    process = subprocess.run(
        [environment / "bin" / "python", "-m", "vramcast", script, "--json"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    row = {"script": script, "torch": version, "torchvision": VERSIONS[version]}
    try:
        answer = json.loads(process.stdout)
    except ValueError:
        last = (process.stderr.strip().splitlines() or ["no output"])[-1]
        return row | {"error": last}
    if "error" in answer:
        return row | {"error": answer["error"]}
    return row | {key: answer[key] for key in ("reserved_gb", "allocated_gb")}


def keep(row: dict) -> None:
    """Write a row into the results, in the place of the older one of its script and version."""
    known = {(one["torch"], one["script"]): one for one in rows.read(RESULTS)}
    known[row["torch"], row["script"]] = row
    order = [(version, script) for version in VERSIONS for script in SCRIPTS]
    write_json([known[key] for key in order if key in known], RESULTS)


def said(row: dict) -> str:
    """A row in words."""
    if "error" in row:
        return row["error"]
    return f"{row['reserved_gb']:.3f} GB reserved, {row['allocated_gb']:.3f} GB allocated"


def given(text: str) -> tuple[str, Path]:
    """A version and its environment, from VERSION=FOLDER. Raises ArgumentTypeError."""
    version, _, folder = text.partition("=")
    if version not in VERSIONS or not (Path(folder) / "bin" / "python").exists():
        raise argparse.ArgumentTypeError(
            f"{text!r} is no VERSION=FOLDER, with one of {', '.join(VERSIONS)} and an environment"
        )
    return version, Path(folder).absolute()


def main() -> int:
    parser = argparse.ArgumentParser(description="Predict in several versions of PyTorch.")
    parser.add_argument("script", nargs="*", default=SCRIPTS, help="some of these alone")
    parser.add_argument("--torch", choices=VERSIONS, help="this version alone")
    parser.add_argument(
        "--environment", action="append", default=[], type=given, metavar="VERSION=FOLDER",
        help="an environment that is there, with that version of PyTorch",
    )  # fmt: skip
    asked = parser.parse_args()
    known = dict(asked.environment)
    if strange := set(asked.script) - set(SCRIPTS):
        parser.error(f"not among the scripts of this benchmark: {', '.join(strange)}")
    failed = False
    try:
        for version in [asked.torch] if asked.torch else VERSIONS:
            with tempfile.TemporaryDirectory(prefix=f"torch-{version}-") as folder:
                try:
                    place = known.get(version) or make_environment(version, Path(folder))
                except subprocess.CalledProcessError as error:
                    print(f"{version}: no environment: {error}", file=sys.stderr)
                    failed = True
                    continue
                for script in asked.script:
                    row = predict(script, version, place)
                    keep(row)
                    failed |= "error" in row
                    print(f"{version}: {script}: {said(row)}", flush=True)
    except KeyboardInterrupt:
        print(f"\nStopped. What is known is in {RESULTS}", file=sys.stderr)
        return 130
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
