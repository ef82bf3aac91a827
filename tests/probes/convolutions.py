"""Convolutions on the GPU without data; print what cuDNN was asked and what was booked, as JSON.

See test_cudnn.py. The first argument is Python code with modules and inputs, such as
`Conv2d(3, 8, 3)(input(2, 3, 8, 8)).sum().backward()`. Numbers after it put a stand-in in the place
of cuDNN, whose plans need workspaces of so many bytes.
"""

import json
import sys

import torch
from torch.nn import *  # noqa: F403

from vramcast import gpus
from vramcast.device import mode as gpu
from vramcast.memory.tracker import Tracker
from vramcast.operators import cudnn

code, *sizes = sys.argv[1:]
asked, events, notes = [], [], []
NAMES = {cudnn.FORWARD: "forward", cudnn.DATA: "data", cudnn.FILTER: "filter"}


class Listening(cudnn.Library):
    """cuDNN, or what stands in for it; what it is asked and says is noted."""

    if sizes:
        version = "0.0"

        def __init__(self, properties: dict) -> None:
            pass

    def workspaces(self, question, mode, refused):
        said = []
        asked.append(
            {
                "operation": NAMES[question.operation],
                "dtype": str(question.dtype).removeprefix("torch."),
                "shapes": question.shapes,
                "alignments": question.alignments,
                "channels_last": question.channels_last,
                "padding": question.padding,
                "stride": question.stride,
                "dilation": question.dilation,
                "mode": mode,
                "refused": sorted(refused),
                "said": said,
            }
        )
        ask = super().workspaces
        for size in map(int, sizes) if sizes else ask(question, mode, refused):
            said.append(size)
            yield size


cudnn.Library = Listening


def sees(what, storage, other):
    if storage is not None and storage.device == "cuda":
        name = storage.op.removeprefix("aten.").removesuffix(".default")
        events.append((what, name, storage.size))
    elif what == "empty":
        events.append((what, "", 0))


def input(*shape, **options):
    return torch.empty(*shape, requires_grad=True, **options)


tracker = Tracker(sees)
tracker.install()
with gpu.install(tracker, gpus.DEFAULT, 1, notes), torch.device("cuda"):
    exec(code)
print(json.dumps({"asked": asked, "events": events, "notes": notes}))
