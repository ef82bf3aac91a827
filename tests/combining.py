"""Train a small network on the CPU with two techniques at once, and compare with plain training.

    python -m tests.combining [FILE]      all pairs, kept in results/combining.json

A pair is tried as one would write it down, technique by technique, and where that goes wrong once
more with the care that helps, if any does. What "plain" gives is computed without any of the
libraries under test but autograd. Sharded pairs run in two processes.
"""

import functools
import itertools
import json
import math
import os
import socket
import sys
import tempfile
import warnings
from contextlib import nullcontext
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    CPUOffload,
    CPUOffloadPolicy,
    FullyShardedDataParallel,
    fully_shard,
)
from torch.distributed.fsdp.sharded_grad_scaler import ShardedGradScaler
from torch.utils.checkpoint import checkpoint
from torchao.optim import AdamW8bit

from stand_ins import hardware
from stand_ins.ladder import ROOT
from stand_ins.processes import write_json

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
}
PAIRS = list(itertools.combinations(TECHNIQUES, 2))
# What helps where the plain composition goes wrong: flags that `train` knows.
CARE = {
    ("accumulation", "clipping"): "once a step",
    ("accumulation", "schedule"): "once a step",
    ("accumulation", "FSDP1 offload"): "no_sync",
    ("half", "8 bits"): "stochastic rounding",
    ("clipping", "scaler"): "unscale first",
    ("clipping", "FSDP1"): "FSDP's own",
    ("clipping", "FSDP1 offload"): "FSDP's own",
    ("scaler", "schedule"): "skip both",
    ("scaler", "FSDP1"): "sharded scaler",
    ("scaler", "FSDP1 offload"): "sharded scaler",
}
WIDTH, BATCH, MICRO, STEPS = 128, 16, 4, 6
RATES = {False: 0.05, True: 1e-4}  # of SGD, of AdamW: the latter below bfloat16's precision
MOMENTUM, DECAY, BETAS, EPS, LARGEST_NORM = 0.9, 0.01, (0.9, 0.999), 1e-8, 0.5
CLOSE = {"exact": 0.001, "lossy": 0.1}  # distance to plain training, of the way that it went


class Block(nn.Module):
    """Two layers beside a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.up, self.down = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        return x + self.down(F.gelu(self.up(self.norm(x))))


class Network(nn.Module):
    """Ten classes from [B, WIDTH]. `boost` enlarges the gradient of one number of `shift`.

    Where that is sharded, one rank alone has this number.
    """

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(Block(), Block())
        self.shift = nn.Parameter(torch.zeros(10))
        self.head = nn.Linear(WIDTH, 10)

    def forward(self, x, boost: float):
        return self.head(self.blocks(x)) + boost * F.one_hot(torch.tensor(0), 10) * self.shift


def network() -> Network:
    """The same network each time."""
    torch.manual_seed(123)
    return Network()


def batches(on: set[str]) -> list[tuple]:
    """Images, labels, and a factor that lets one parameter overflow once if there is a scaler."""
    generator = torch.Generator().manual_seed(123)
    return [
        (
            torch.randn(BATCH, WIDTH, generator=generator),
            torch.randint(10, (BATCH,), generator=generator),
            1e38 if "scaler" in on and step == 1 else 0.0,
        )
        for step in range(STEPS)
    ]


def flat(tensors) -> torch.Tensor:
    return torch.cat([tensor.detach().float().flatten() for tensor in tensors])


# ------------------------------------------------------------------------------------ the reference


def plain(on: set[str]) -> torch.Tensor:
    """The parameters after float32 training by the formulas of SGD or AdamW, clipping and cosine.

    A step whose gradients overflow is skipped where there is a scaler.
    """
    model = network()
    parameters = list(model.parameters())
    first = second = torch.zeros_like(flat(parameters))
    adam, taken = "8 bits" in on, 0
    for images, labels, boost in batches(on):
        if boost:
            continue
        loss = F.cross_entropy(model(images, boost), labels)
        gradient = flat(torch.autograd.grad(loss, parameters))
        if "clipping" in on:
            gradient = gradient * min(1, LARGEST_NORM / gradient.norm().item())
        rate = RATES[adam]
        if "schedule" in on:
            rate *= (1 + math.cos(math.pi * taken / STEPS)) / 2
        taken += 1
        now = flat(parameters)
        if adam:
            first = BETAS[0] * first + (1 - BETAS[0]) * gradient
            second = BETAS[1] * second + (1 - BETAS[1]) * gradient**2
            unbiased = (second / (1 - BETAS[1] ** taken)).sqrt() + EPS
            step = rate * first / (1 - BETAS[0] ** taken) / unbiased + rate * DECAY * now
        else:
            first = MOMENTUM * first + gradient
            step = rate * first
        torch.nn.utils.vector_to_parameters(now - step, parameters)
    return flat(parameters)


# ---------------------------------------------------------------------------- techniques, together


def shard(model: nn.Module, on: set[str]) -> nn.Module:
    """Apply the kinds of sharding that are asked for, in their order."""
    if {"FSDP1", "FSDP1 offload"} & on:
        offload = CPUOffload("FSDP1 offload" in on)
        model = FullyShardedDataParallel(
            model, use_orig_params=True, cpu_offload=offload, device_id=torch.device("cpu")
        )
    if {"FSDP2", "FSDP2 offload"} & on:
        mesh = init_device_mesh("cpu", (dist.get_world_size(),))
        options = {"offload_policy": CPUOffloadPolicy(False)} if "FSDP2 offload" in on else {}
        for block in getattr(model, "module", model).blocks:
            fully_shard(block, mesh=mesh, **options)
        model = fully_shard(model, mesh=mesh, **options)
    return model


def whole(model: nn.Module, on: set[str]) -> torch.Tensor:
    """All parameters, gathered from all ranks."""
    if isinstance(model, FullyShardedDataParallel):
        with FullyShardedDataParallel.summon_full_params(model):
            return flat(model.parameters())
    return flat(getattr(p, "full_tensor", lambda p=p: p)() for p in model.parameters())


def train(on: set[str], care: str = "") -> torch.Tensor:
    """The parameters after training with these techniques."""
    model = network()
    if "half" in on:  # GradScaler is made for float16
        model.to(torch.float16 if "scaler" in on else torch.bfloat16)
    if "checkpointing" in on:
        for block in model.blocks:
            block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)
    model = shard(model, on)
    rate = RATES["8 bits" in on]
    if "8 bits" in on:
        rounding = care == "stochastic rounding"
        optimizer = AdamW8bit(model.parameters(), lr=rate, bf16_stochastic_round=rounding)
    else:
        optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=MOMENTUM)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=STEPS)
    kind = ShardedGradScaler if care == "sharded scaler" else torch.amp.GradScaler
    scaler = kind("cpu", enabled="scaler" in on)

    def clip() -> None:
        if care == "unscale first":
            scaler.unscale_(optimizer)
        if care == "FSDP's own":
            model.clip_grad_norm_(LARGEST_NORM)
        else:
            torch.nn.utils.clip_grad_norm_(model.parameters(), LARGEST_NORM)

    def update(parameter) -> None:
        scaler.step(optimizer)
        scaler.update()
        parameter.grad = None

    if "in backward" in on:
        for parameter in model.parameters():
            parameter.register_post_accumulate_grad_hook(update)
    rank, ranks = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    for images, labels, boost in batches(on):
        images, labels = images.chunk(ranks)[rank], labels.chunk(ranks)[rank]
        micro = MICRO if "accumulation" in on else len(labels)
        parts = list(zip(images.split(micro), labels.split(micro), strict=True))
        for number, (some, their) in enumerate(parts):
            last = number == len(parts) - 1
            offload = torch.autograd.graph.save_on_cpu(True)
            with (
                offload if "activation offload" in on else nullcontext(),
                torch.autocast("cpu", torch.bfloat16, enabled="mixed" in on),
            ):
                some = some.to(next(model.parameters()).dtype)
                loss = F.cross_entropy(model(some, boost), their) / len(parts)
            with model.no_sync() if care == "no_sync" and not last else nullcontext():
                scaler.scale(loss).backward()
            if "clipping" in on and (last or care != "once a step"):
                clip()
            if "schedule" in on and not last and care != "once a step":
                schedule.step()
        before = scaler.get_scale()
        if "in backward" not in on:
            scaler.step(optimizer)
            scaler.update()
        optimizer.zero_grad()
        if "schedule" in on and not (care == "skip both" and scaler.get_scale() < before):
            schedule.step()
    return whole(model, on)


# -------------------------------------------------------------------------------------- verdicts


def outcome(pair: tuple[str, str], care: str = "") -> tuple[str, float | None, str]:
    """Right, wrong or refused; how far from plain training, of the way it went; the message."""
    on = set(pair)
    try:
        result = train(on, care)
    except Exception as error:
        message = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
        return "refused", None, message
    start, target = flat(network().parameters()), plain(on)
    way = target - start
    if "half" in on:  # rounding moves each number, but their mean stays
        away = abs(1 - ((result - start) @ way / (way @ way)).item())
    else:
        away = ((result - target).norm() / way.norm()).item()
    lossy = {"mixed", "half", "8 bits"} & on
    right = away <= CLOSE["lossy" if lossy else "exact"]
    return "right" if right else "wrong", away if math.isfinite(away) else None, ""


def verdict(pair: tuple[str, str]) -> dict:
    """A cell: works, works with care, silently wrong or refused, and what it was decided by."""
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
    return any("FSDP" in technique for technique in pair)


def run_rank(rank: int, ranks: int, port: int, path: str) -> None:
    """In one of several processes: all sharded pairs."""
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
    """Every pair's cell, in the order of PAIRS; `folder` is for the processes' result."""
    warnings.simplefilter("ignore")
    torch.compiler.set_stance("force_eager")
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
    write_json({"techniques": TECHNIQUES, "pairs": cells}, path)
    for cell in cells:
        print(f"{' × '.join(cell['pair']):45s} {cell['verdict']}")
