"""Train a small model on the GPU without data; print what was booked, as JSON: see test_gpu.py."""

import copy
import json
import sys

import torch
import torch.nn.functional as F

from vramcast import gpus
from vramcast.device import mode as gpu
from vramcast.memory.tracker import Tracker

(precision,) = sys.argv[1:]
alive, peak = {}, [0, {}]


def sees(what, storage, other):
    if storage is None or storage.device != "cuda":
        return
    if what == "allocate":
        alive[id(storage)] = storage
    elif what == "free":
        del alive[id(storage)]
    total = sum(one.size for one in alive.values())
    if total > peak[0]:
        peak[:] = total, list(alive.values())


tracker = Tracker(sees)
tracker.install()
with gpu.install(tracker, gpus.DEFAULT, 1):
    model = torch.nn.Sequential(
        torch.nn.Linear(256, 1024, bias=False),
        torch.nn.GELU(),
        torch.nn.Linear(1024, 256, bias=False),
    ).to("cuda")
    model = copy.deepcopy(model)  # corrupted the heap, once
    optimizer = torch.optim.Adam(model.parameters())
    kinds = []
    for _ in range(3):
        images = torch.randn(512, 256).to("cuda")
        with torch.autocast("cuda", torch.float16, enabled=precision == "mixed"):
            output = model(images)
        kinds.append(str(output.dtype))
        loss = F.mse_loss(output.float(), images)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    sums = dict.fromkeys(("parameters", "gradients", "optimizer"), 0)
    for storage in alive.values():
        kind = tracker.kind(storage)
        if kind in sums:
            sums[kind] += storage.size
    found = {"peak": peak[0], "sums": sums, "output": kinds, "loss": loss.item()}
print(json.dumps(found))
