"""Train a small network on the CPU with two techniques at once, and compare with plain training.

    python -m benchmarks.pairs [FILE]      all pairs, kept in results/combining.json

A pair is first tried in the way that one would write it down, technique by technique. If that goes
wrong, it is tried again with the care that helps, if any does (`small_training.py`). The result is
compared with training by formulas (`plain_training.py`). Sharded pairs run in two processes.
"""

import itertools
import json
import math
import os
import socket
import sys
import tempfile
import warnings
from pathlib import Path

import torch
import torch.distributed as dist

from benchmarks.plain_training import before, plain
from benchmarks.small_network import COPIED
from benchmarks.small_training import train
from ladder import fingerprints
from ladder.rungs import ROOT
from rehearsal import hardware
from vramcast.processes.supervisor import write_json

RESULTS = ROOT / "results" / "combining.json"
TECHNIQUES = {
    "mixed": "16-bit mixed precision",
    "half": "16-bit throughout",
    "accumulation": "gradient accumulation",
    "checkpointing": "activation checkpointing",
    "in backward": "optimizer in backward",
    "8 bits": "8-bit AdamW",
    "clipping": "gradient clipping",
    "scaler": "GradScaler",
    "schedule": "learning rate schedule",
    "FSDP1": "FSDP1",
    "FSDP2": "FSDP2",
    "FSDP1 offload": "FSDP1 with CPU offload",
    "FSDP2 offload": "FSDP2 with CPU offload",
    "activation offload": "activation offload",
    "selective checkpointing": "selective checkpointing",
    "Adafactor": "Adafactor",
    "optimizer offload": "optimizer offload",
    "LoRA": "LoRA",
    "QLoRA": "QLoRA",
    "frozen blocks": "frozen first blocks",
    "DDP": "DDP",
    "ZeRO-1": "ZeRO stage 1",
    "bf16 states": "bfloat16 optimizer states",
}
PAIRS = list(itertools.combinations(TECHNIQUES, 2))
# What helps where the plain composition goes wrong: flags that `train` knows.
CARE = {
    ("accumulation", "clipping"): "once a step",
    ("accumulation", "schedule"): "once a step",
    ("accumulation", "FSDP1 offload"): "no_sync",
    ("half", "8 bits"): "stochastic rounding",
    ("half", "Adafactor"): "float32's eps",
    ("clipping", "scaler"): "unscale first",
    ("clipping", "FSDP1"): "FSDP's own",
    ("clipping", "FSDP1 offload"): "FSDP's own",
    ("scaler", "schedule"): "skip both",
    ("scaler", "FSDP1"): "sharded scaler",
    ("scaler", "FSDP1 offload"): "sharded scaler",
}
CLOSE = {"exact": 0.001, "lossy": 0.1}  # distance to plain training, of the way that it went


# -------------------------------------------------------------------------------------- verdicts


def outcome(pair: tuple[str, str], care: str = "") -> tuple[str, float | None, str]:
    """Right, wrong or refused; the distance from plain training; the message."""
    on = set(pair)
    try:
        result = train(on, care)
    except Exception as error:
        message = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
        return "refused", None, message
    start, target = before(on), plain(on)
    way = target - start
    if "half" in on:  # rounding moves each number, but their mean stays
        away = abs(1 - ((result - start) @ way / (way @ way)).item())
    else:
        away = ((result - target).norm() / way.norm()).item()
    lossy = {"mixed", "half", "8 bits", "bf16 states"} & on
    right = away <= CLOSE["lossy" if lossy else "exact"]
    return "right" if right else "wrong", away if math.isfinite(away) else None, ""


def verdict(pair: tuple[str, str]) -> dict:
    """A pair's cell: works, works with care, silently wrong or refused, and the reason for it."""
    state, away, message = outcome(pair)
    cell = {"pair": list(pair), "verdict": "works", "distance": away}
    if state == "right":
        return cell
    cell["verdict"] = "refused" if state == "refused" else "silently wrong"
    if message:
        cell["message"] = message
    if pair in CARE:
        state, away, message = outcome(pair, CARE[pair])
        cell |= {"care": CARE[pair], "distance_with_care": away}
        if state == "right":
            cell["verdict"] = "works with care"
    return cell


def sharded(pair: tuple[str, str]) -> bool:
    """Whether a pair trains in several processes."""
    return any("FSDP" in technique or technique in COPIED for technique in pair)


def run_rank(rank: int, ranks: int, port: int, path: str) -> None:
    """Try all sharded pairs, in one of several processes."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    hardware.install(ranks)  # FSDP1 asks for a GPU
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo", rank=rank, world_size=ranks)
    cells = [verdict(pair) for pair in PAIRS if sharded(pair)]
    if rank == 0:
        write_json(cells, Path(path))
    sys.stdout.flush()
    os._exit(0)  # past gloo's threads


def all_verdicts(folder: Path) -> list[dict]:
    """The cells of all pairs, in the order of PAIRS; `folder` is for the processes' results."""
    warnings.simplefilter("ignore")
    hardware.install()  # optimizer offload asks for a GPU
    cells = [verdict(pair) for pair in PAIRS if not sharded(pair)]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path = folder / "sharded.json"
    torch.multiprocessing.spawn(run_rank, (2, port, str(path)), nprocs=2)
    cells += json.loads(path.read_text())
    return sorted(cells, key=lambda cell: PAIRS.index(tuple(cell["pair"])))


if __name__ == "__main__":
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS
    with tempfile.TemporaryDirectory() as folder:
        cells = all_verdicts(Path(folder))
    made_from = {"fingerprint": fingerprints.of_all("combining")}
    write_json(made_from | {"techniques": TECHNIQUES, "pairs": cells}, path)
    for cell in cells:
        print(f"{' × '.join(cell['pair']):45s} {cell['verdict']}")
