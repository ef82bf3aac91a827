"""Predict the records of a speedrun as they ran: python -m benchmarks.speedruns CHECKOUT [WORD …]

CHECKOUT is a clone of KellerJordan/modded-nanogpt. Each of its records has logs that begin with the
script and end with the peak of the first of 8 GPUs (H100 with 80 GB). All scripts are compiled. The
script of a record's first log is predicted unmodified, beside small shards in the format of its
data, and its figures are held against those of the log. Writes results/speedruns.json.

Taken are all records whose log says a peak, but those that need a package with kernels of its own
(FlashAttention 3). This was settled before a compiled script could be predicted as such. Figures of
other logs of a record differ by less than 3 %; `others` holds them.

With words, only records whose name has one of them are predicted. The rows of others stay.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ladder.rungs import ROOT
from vramcast.processes.supervisor import write_json

RESULTS = ROOT / "results" / "speedruns.json"
GPUS, GPU, LONGEST = 8, "H100", 1800  # seconds
MIB = 2**20
END = re.compile(r"^={100}$", re.MULTILINE)  # of the script in a log
PEAK = re.compile(
    r"^peak memory (?:consumption|allocated): (\d+) MiB(?: reserved: (\d+) MiB)?", re.MULTILINE
)
VERSION = re.compile(r"2\.\d+\.\d[\w.+]*")
OWN_KERNELS = ("flash_attn", "get_kernel", "from muon import")  # packages beside PyTorch
DOCUMENT, WORD, TOKENS, SHARDS = 640, 50_256, 20_000_000, 3


def git(checkout: Path, *command: str) -> str:
    """What git prints. Raises CalledProcessError, also for what a shallow clone lacks."""
    found = subprocess.run(["git", "-C", checkout, *command], check=True, capture_output=True)
    return found.stdout.decode(errors="replace")


def records(checkout: Path) -> Iterator[tuple[dict, str]]:
    """Of each record: its row as far as that is known, and its script."""
    folders: dict[str, list[str]] = {}
    for file in git(checkout, "ls-tree", "-r", "--name-only", "HEAD", "records").splitlines():
        if file.endswith((".txt", ".log")):
            folders.setdefault("/".join(file.split("/")[:3]), []).append(file)
    commit = git(checkout, "rev-parse", "HEAD")[:7]
    for folder, files in sorted(folders.items()):
        logs = []
        for file in files[:6]:
            try:
                logs.append((file, git(checkout, "show", f"HEAD:{file}")))
            except subprocess.CalledProcessError:
                continue  # it is not in this clone
        ends = [(file, text, PEAK.findall(text)) for file, text in logs]
        ends = [(file, text, found[-1]) for file, text, found in ends if found]
        if not ends:
            continue
        file, text, peak = ends[0]
        script, rest = END.split(text, maxsplit=1)
        if any(word in script for word in OWN_KERNELS):
            continue
        version = VERSION.search(rest)
        row = {"record": folder.removeprefix("records/"), "log": file, "commit": commit}
        row |= {"pytorch": version and version[0], "measured": _figures(peak)}
        row |= {"others": [_figures(found) for _, _, found in ends[1:]]}
        yield row, script


def _figures(peak: tuple[str, str]) -> dict:
    """What a log says, in GB."""
    names = ("allocated_gb", "reserved_gb")
    return {name: int(mib) * MIB / 1e9 for name, mib in zip(names, peak) if mib}


def write_shards(folder: Path) -> None:
    """256 numbers of 4 bytes (a magic one, the version, how many words), then words of 2 bytes."""
    folder.mkdir(parents=True)
    words = (np.arange(TOKENS) * 7919 % 50_000).astype(np.uint16)
    words[::DOCUMENT] = WORD
    header = np.zeros(256, dtype=np.int32)
    header[:3] = 20240520, 1, TOKENS
    names = [f"fineweb_train_{number:06}.bin" for number in range(1, SHARDS + 1)]
    for name in (*names, "fineweb_val_000000.bin"):
        (folder / name).write_bytes(header.tobytes() + words.tobytes())


def predicted(script: str, folder: Path) -> dict:
    """The prediction of a script, or why there is none."""
    file = folder / "train_gpt.py"
    file.write_text(script)
    command = [sys.executable, "-m", "vramcast", "--json", "--gpu", GPU, "--gpus", str(GPUS)]
    command += ["--time-limit", str(LONGEST), str(file)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env=environment, check=False
    )
    said = json.loads(process.stdout)
    return {
        name: said[name]
        for name in ("allocated_gb", "reserved_gb", "seconds", "error", "notes")
        if name in said
    }


def line(row: dict) -> str:
    """What is said of a row when it is there."""
    said = row["predicted"]
    if "error" in said:
        return f"{row['record']}: {said['error']}"
    parts = [
        f"{name.removesuffix('_gb')} {measured:.2f} GB measured, {said[name]:.2f} predicted "
        f"({said[name] / measured - 1:+.1%})"
        for name, measured in row["measured"].items()
    ]
    return f"{row['record']}: {', '.join(parts)}, {said['seconds']:.0f} s"


def main() -> None:
    checkout, words = Path(sys.argv[1]), sys.argv[2:]
    known = {}
    if RESULTS.exists():
        known = {row["record"]: row for row in json.loads(RESULTS.read_text())}
    with tempfile.TemporaryDirectory() as place:
        shards = Path(place) / "data" / "fineweb10B"
        write_shards(shards)
        for row, script in records(checkout):
            if words and not any(word in row["record"] for word in words):
                continue
            folder = Path(place) / row["record"].replace("/", "-")
            (folder / "logs").mkdir(parents=True)
            (folder / "data").symlink_to(shards.parent)
            row["predicted"] = predicted(script, folder)
            known[row["record"]] = row
            print(line(row), flush=True)
            write_json(sorted(known.values(), key=lambda one: one["record"]), RESULTS)


if __name__ == "__main__":
    main()
