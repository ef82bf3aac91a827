"""Train a small model and print what was booked, as JSON: see test_tracker.py.

shapes      on the GPU without data
real        on the CPU, with numbers
memtracker  on the CPU, booked by PyTorch's MemTracker
"""

import json
import sys

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from vramcast import gpus
from vramcast.device import mode as gpu
from vramcast.memory import peaks
from vramcast.memory.tracker import Tracker

(how,) = sys.argv[1:]


class Book(TorchDispatchMode):
    """Book the results of real operators."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        tracker.book(result, func, args)
        return result


def train(device, watch=None):
    """Three steps of a block of a transformer, without what CPU and GPU do differently."""
    torch.manual_seed(0)
    parts = (
        torch.nn.LayerNorm(64, device=device),
        torch.nn.Linear(64, 256, device=device),
        torch.nn.ReLU(),
        torch.nn.Linear(256, 64, device=device),
    )
    model = torch.nn.Sequential(*parts)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, foreach=False)
    if watch:
        watch.track_external(model, optimizer)
    for _ in range(3):
        inputs = torch.ones(32, 64, device=device)
        loss = (model(inputs) - inputs).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if watch:
            watch.reset_mod_stats()  # or it refuses a second iteration


if how == "memtracker":
    from torch.distributed._tools.mem_tracker import MemTracker

    watch = MemTracker()
    with watch:
        train("cpu", watch)
    peak = watch.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"]
    print(json.dumps({"peak": peak}))
    sys.exit()
tracker = Tracker()
tracker.install()
if how == "shapes":
    with gpu.install(tracker, gpus.find("A100-40"), 1):
        train("cuda")
else:
    with Book():
        train("cpu")
where = "cuda" if how == "shapes" else "cpu"
events = [
    (what, storage.size)
    for what, storage, _ in tracker.events
    if storage is not None and storage.device == where and storage.op != "library"
]
now, most = 0, 0
for what, size in events:
    now += size if what == "allocate" else -size
    most = max(most, now)
kinds = {
    kind: sum(storage.size for storage in alive if tracker.kind(storage) == kind)
    for alive in [peaks.peak(tracker.events, where)[1]]
    for kind in ("parameters", "gradients", "optimizer")
}
print(json.dumps({"peak": most, "trace": events, "kinds": kinds}))
