"""What is known of a prediction's error, and of what PyTorch's counters leave out: the verdict's.

`margin.json` is made from the evidence by the repository's `make results` (ladder/margin.py).
"""

import functools
import json
from pathlib import Path

from vramcast.gpus import Model

# Kinds of scripts whose errors are judged apart. A script is of the last one that applies.
LIKE = ("plain", "convolutions", "quantized", "sharded", "compiled")

# Bytes beside the context and what PyTorch has reserved. Kernels are loaded when first used: in ten
# of twelve trainings on an RTX 4080 they took 0.07 GB, in the others 0.36 and 0.50 (free memory in
# DaoyuanLi2816/can-i-finetune-this, benchmarks/results, PyTorch 2.6, CUDA 12.4). CUDA 11 loaded all
# of them at once, 0.7 GB and more.
KERNELS = 500_000_000
# NCCL's buffers for one process group of more than two GPUs, 688 MiB, on A100 with NVLink
# (github.com/NVIDIA/nccl/issues/964; 544 MiB for two GPUs).
GROUP = 688 * 2**20


@functools.cache
def _margins() -> dict[str, dict]:
    return json.loads((Path(__file__).parent / "margin.json").read_text())


def margin(like: str) -> float:
    """The largest share by which a measurement exceeded its prediction, of scripts of this kind."""
    return _margins()[like]["margin"]


def left_out(gpu: Model, groups: int) -> dict[str, int]:
    """What a GPU's memory may hold beside what PyTorch reserves, in bytes.

    `groups`: the process groups that use NCCL. What other programs hold, a desktop say, comes on
    top of this.
    """
    found = {"CUDA's context": gpu.context, "its kernels": KERNELS}
    return found | ({"NCCL's buffers": groups * GROUP} if groups else {})


def limits(gpu: Model, like: str, groups: int) -> tuple[float, float]:
    """How many bytes PyTorch may reserve on a GPU: if the prediction is exact, and for sure.

    The second leaves room for the error of predictions, and for all that they leave out.
    """
    sure = (gpu.memory - sum(left_out(gpu, groups).values())) / (1 + margin(like))
    return gpu.memory - gpu.context, max(sure, 0.0)


def judged(gpu: Model, row: dict) -> tuple[bool, bool]:
    """Whether a script fits for sure, and if its prediction is exact.

    `row`: its prediction, with "room_gb", the least memory in which it runs.
    """
    exact, sure = limits(gpu, row["like"], row["groups"])
    room = row["room_gb"] * 1e9
    return room <= sure, room <= exact
