"""Convolutions on the GPU without data; print what cuDNN was asked and what was booked, as JSON.

See test_cudnn.py. The first argument is Python code for one pass with an input and a module, such
as `Conv2d(3, 8, 3)(input(2, 3, 8, 8)).sum().backward()`; "install" in the second puts a stand-in in
the place of cuDNN, whose plans need the workspaces that follow (bytes).
"""

import json
import sys

import torch
from torch.nn import *  # noqa: F403

from vramcast import gpus
from vramcast.device import mode as gpu
from vramcast.memory.tracker import Tracker
from vramcast.operators import cudnn, cudnn_plans

code, *sizes = sys.argv[1:]
asked, events, notes = [], [], []
ask = cudnn_plans.Library.workspaces


class Stand(cudnn_plans.Library):
    """cuDNN, or what stands in for it: tells what it was asked."""

    if sizes:
        version = "9.0"

        def __init__(self, properties):
            pass

    def workspaces(self, question, mode, refused):
        names = {cudnn_plans.FORWARD: "forward", cudnn_plans.DATA: "data"}
        asked.append(
            {
                "operation": names.get(question.operation, "filter"),
                "dtype": str(question.dtype).removeprefix("torch."),
                "shapes": question.shapes,
                "channels_last": question.channels_last,
                "mode": mode,
                "refused": sorted(refused),
            }
        )
        yield from map(int, sizes) if sizes else ask(self, question, mode, refused)


cudnn_plans.Library = Stand


def sees(what, storage, other):
    if storage is not None and storage.device == "cuda":
        name = storage.op.removeprefix("aten.").removesuffix(".default")
        events.append((what, name, storage.size))
    elif what == "empty":
        events.append((what, "", 0))


def input(*shape, **options):
    return torch.empty(*shape, device="cuda", requires_grad=True, **options)


tracker = Tracker(sees)
tracker.install()
with gpu.install(tracker, gpus.DEFAULT, 1, notes), torch.device("cuda"):
    exec(code)
print(json.dumps({"asked": asked, "events": events, "notes": notes}))
