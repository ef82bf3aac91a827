"""Predict the records of two contests as they ran: python -m benchmarks.speedruns CHECKOUT [WORD …]

CHECKOUT is a clone of KellerJordan/modded-nanogpt or openai/parameter-golf. Each record there has
a script, all of them compiled, and logs, which end with the peak of the first GPU (H100 or H200,
mostly one of 8). A script runs unmodified, beside small files in the format of its data. It prints
its peak itself, here as there; these two lines are held against each other. Writes
results/speedruns.json.

Taken are all records whose log has the line, but those that need packages with kernels of their
own (FlashAttention 3, a Muon), write some in Triton, or are packed. This was settled before a
compiled script could be predicted as such; uncompiled figures of some were known by then. Of a
record's logs, those of one script on one number of GPUs make one row: the first is measured,
`others` are the figures of the rest. What a script takes from its environment is what the command
in its README and its log say; one whose model then has another size than the log's is not counted.

With words, only records whose name has one of them are predicted. The rows of others stay.
"""

import io
import json
import os
import random
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
LONGEST = 1800  # seconds
MIB = 2**20
END = re.compile(r"^={100}$", re.MULTILINE)  # of the script in a log
PEAK = re.compile(
    r"^peak memory (?:consumption|allocated): (\d+) MiB(?: reserved: (\d+) MiB)?", re.MULTILINE
)
VERSION = re.compile(r"[Pp]y[Tt]orch (2\.\d+\.\d[\w.+]*)")
SETTINGS = re.compile(r"^(?:export )?((?:[A-Z]\w*=[\d.]+\s*)+)\\?$", re.MULTILINE)  # in a README
SIZES = re.compile(r"\b(train_batch_tokens|train_seq_len):(\d+)")
PARAMETERS, WORLD = (
    re.compile(r"model_params:(\d+)"),
    re.compile(r"^world_size:(\d+)", re.MULTILINE),
)
OWN_KERNELS = ("flash_attn", "get_kernel", "from muon import", "triton.jit", "lzma")
TRACKS = ("track_1_short", "track_2_medium", "track_10min_16mb")
WORDS, DOCUMENT, LAST, TOKENS = 50_000, 640, 50_256, 20_000_000
FEW = 1024  # words of parameter-golf's first tokenizer
LOGS = 6  # of one record
PACKED = 50  # a script of fewer lines unpacks itself


def git(checkout: Path, *command: str) -> str:
    """What git prints. Raises CalledProcessError, also for files that the clone lacks."""
    found = subprocess.run(["git", "-C", checkout, *command], check=True, capture_output=True)
    return found.stdout.decode(errors="replace")


def records(checkout: Path) -> Iterator[tuple[dict, str, dict]]:
    """Of each record: its row as far as that is known, its script, and what it is told."""
    folders: dict[str, list[str]] = {}
    for file in git(checkout, "ls-tree", "-r", "--name-only", "HEAD", "records").splitlines():
        if file.split("/")[1] in TRACKS:
            folders.setdefault("/".join(file.split("/")[:3]), []).append(file)
    commit = git(checkout, "rev-parse", "HEAD")[:7]
    for folder, files in sorted(folders.items()):
        rows: dict[tuple[str, int], tuple[dict, dict]] = {}
        readme = f"{folder}/README.md"
        readme = git(checkout, "show", f"HEAD:{readme}") if readme in files else ""
        logs = [file for file in files if file.endswith((".txt", ".log"))]
        for file in logs[:LOGS]:
            try:
                log = git(checkout, "show", f"HEAD:{file}")
            except subprocess.CalledProcessError:
                continue
            script, said = _parts(log)
            own = f"{folder}/train_gpt.py"
            if not script and own in files:
                script = git(checkout, "show", f"HEAD:{own}")
            peak = PEAK.findall(said)
            if not peak or script.count("\n") < PACKED:
                continue
            if any(word in script for word in OWN_KERNELS):
                continue
            gpus = WORLD.search(said)
            gpus = int(gpus[1]) if gpus else 8
            if known := rows.get((script, gpus)):
                known[0]["others"].append(_figures(peak[-1]))
                continue
            version, parameters = VERSION.search(said), PARAMETERS.search(said)
            row = {"record": folder.removeprefix("records/"), "log": file, "commit": commit}
            row |= {"pytorch": version and version[1], "gpus": gpus}
            row |= {"gpu": "H200" if "NVIDIA H200" in said else "H100"}
            row |= {"parameters": parameters and int(parameters[1])}
            row |= {"measured": _figures(peak[-1]), "others": []}
            rows[script, gpus] = row, {name.upper(): size for name, size in SIZES.findall(said)}
        for (script, _), (row, sizes) in rows.items():
            yield row, script, _settings(readme, script) | sizes


def _settings(readme: str, script: str) -> dict:
    """The numbers in a README's command that the script looks for in its environment."""
    pairs = " ".join(SETTINGS.findall(readme.replace("\\_", "_"))).split()
    found = dict(pair.split("=", 1) for pair in pairs)
    return {name: value for name, value in found.items() if f'"{name}"' in script}


def _parts(log: str) -> tuple[str, str]:
    """The script at the head of a log, if it has one, and the rest."""
    parts = END.split(log, maxsplit=1)
    if len(parts) == 2 and "import torch" in parts[0]:
        return parts[0], parts[1]
    return "", log


def _figures(peak: tuple[str, str]) -> dict:
    """What a line says, in GB."""
    names = ("allocated_gb", "reserved_gb")
    return {name: int(mib) * MIB / 1e9 for name, mib in zip(names, peak) if mib}


def write_data(folder: Path) -> None:
    """A tokenizer, and words of 2 bytes behind 256 numbers of 4 (magic, the version, how many)."""
    tall = (np.arange(TOKENS) * 7919 % WORDS).astype(np.uint16)
    tall[::DOCUMENT] = LAST
    for place, words in (
        ("fineweb10B", tall), (f"datasets/fineweb10B_sp{FEW}", (tall % FEW).astype(np.uint16)),
    ):  # fmt: skip
        (folder / place).mkdir(parents=True)
        header = np.zeros(256, dtype=np.int32)
        header[:3] = 20240520, 1, TOKENS
        for name in ("train_000001", "train_000002", "train_000003", "val_000000"):
            data = header.tobytes() + words.tobytes()
            (folder / place / f"fineweb_{name}.bin").write_bytes(data)
    import sentencepiece  # which nothing else here needs

    chance, model = random.Random(0), io.BytesIO()
    text = (
        " ".join("".join(chance.choices("etaoinshrdlucmfwyp", k=6)) for _ in range(12))
        for _ in range(6000)
    )
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=text, model_writer=model, vocab_size=FEW, model_type="bpe",
        byte_fallback=True, minloglevel=2,
    )  # fmt: skip
    (folder / "tokenizers").mkdir()
    (folder / "tokenizers" / f"fineweb_{FEW}_bpe.model").write_bytes(model.getvalue())


def predicted(row: dict, script: str, settings: dict, folder: Path) -> dict:
    """What the script prints as its peak, or why it does not."""
    file = folder / "train_gpt.py"
    file.write_text(script)
    command = [sys.executable, "-m", "vramcast", "--json", "--show", "--gpu", row["gpu"]]
    command += ["--gpus", str(row["gpus"]), "--time-limit", str(LONGEST), str(file)]
    process = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | settings,
    )  # fmt: skip
    answer = json.loads(process.stdout)
    if "error" in answer:
        return {"error": answer["error"]}
    kept = {name: answer[name] for name in ("seconds", "notes", "uncompiled_gb") if name in answer}
    parameters = PARAMETERS.search(process.stderr)  # where --json leaves the script's output
    if parameters and row["parameters"] not in (None, int(parameters[1])):
        kept["counted"] = False
    peak = PEAK.findall(process.stderr)
    if not peak:
        return kept | {"error": "it ended before it said its peak"}
    return kept | _figures(peak[-1])


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
    if not said.get("counted", True):
        parts.append("a model of another size")
    return f"{row['record']}: {', '.join(parts)}, {said['seconds']:.0f} s"


def main() -> None:
    checkout, words = Path(sys.argv[1]), sys.argv[2:]
    known = {}
    if RESULTS.exists():
        known = {row["log"]: row for row in json.loads(RESULTS.read_text())}
    with tempfile.TemporaryDirectory() as place:
        data = Path(place) / "data"
        write_data(data)
        for row, script, settings in records(checkout):
            if words and not any(word in row["record"] for word in words):
                continue
            folder = Path(place) / row["log"].replace("/", "-")
            (folder / "logs").mkdir(parents=True)
            (folder / "data").symlink_to(data)
            row["predicted"] = predicted(row, script, settings, folder)
            known[row["log"]] = row
            print(line(row), flush=True)
            write_json(sorted(known.values(), key=lambda one: one["log"]), RESULTS)


if __name__ == "__main__":
    main()
