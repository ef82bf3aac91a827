"""Several GPUs in one process: each has a memory, streams and figures of its own."""

import copy
import pickle

import pytest

from tests.warm import predicted, run
from vramcast import gpus
from vramcast.options import Options
from vramcast.prediction import Prediction
from vramcast.run import schema

FIGURES = ("reserved_gb", "allocated_gb", "breakdown_gb")

# trainings that have nothing in common, a step of each in turn
TRAININGS = """
import sys
import torch

def training(device, width):
    torch.cuda.set_device(device)
    model = torch.nn.Sequential(*(torch.nn.Linear(width, width) for _ in range(4))).cuda()
    optimizer = torch.optim.AdamW(model.parameters())
    while True:
        model(torch.randn(100, width, device=device)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        yield

words = iter(sys.argv[1:])
trainings = [training(device, int(next(words))) for device in words]
for _ in range(4):
    for one in trainings:
        next(one)
"""

# checks itself: a failed `assert` is no prediction
NAMES = """
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

first, second = torch.device("cuda:0"), torch.device("cuda", 1)


def is_on(device, *tensors):
    for tensor in tensors:
        assert tensor.device == device and tensor.get_device() == device.index, tensor.device


host = torch.zeros(2, 2)
is_on(second, host.cuda(1), host.to(1), host.to("cuda:1"), host.to(second), host.to(device=second))
is_on(first, host.cuda(), host.to("cuda"), host.to(0), host.cuda(1).to("cuda"), host.cuda(1).cuda())
there = host.to(second)
is_on(second, there.new_tensor([1.0]), there.new_zeros(1), there.clone(), torch.zeros_like(there))
is_on(second, nn.Linear(2, 2).cuda(1).weight, nn.Linear(2, 2, device=1).weight)


def current(device):
    assert torch.cuda.current_device() == device.index
    assert torch.accelerator.current_device_index() == device.index
    assert torch.cuda.current_stream().device == device
    assert torch.cuda.memory_allocated() == torch.cuda.memory_allocated(device)
    is_on(device, torch.tensor([1.0], device="cuda"), torch.zeros(2, device="cuda"), host.cuda())
    is_on(device, torch.as_tensor([1.0], device="cuda"), nn.Linear(2, 2).to("cuda").weight)


current(first)
with torch.cuda.device(1):
    current(second)
with torch.cuda.device_of(there):
    current(second)
with torch.accelerator.device_index(1):
    current(second)
torch.accelerator.set_device_index(1)
current(second)
torch.cuda.set_device("cuda:0")
current(first)
stream = torch.cuda.Stream(1)
with torch.cuda.stream(stream):
    current(second)
    assert torch.cuda.current_stream() == stream
current(first)
assert torch.cuda.current_stream(1) == torch.cuda.default_stream(1) != torch.cuda.default_stream(0)
with second:
    is_on(second, nn.Linear(2, 2).weight, torch.tensor(1.0))


def refused(words, function):
    try:
        function()
    except RuntimeError as failure:
        assert words in str(failure), failure
    else:
        raise AssertionError(words)


for call in (
    lambda: host.to("cuda:2"), lambda: host.cuda(2), lambda: torch.zeros(1, device="cuda:2"),
    lambda: torch.cuda.set_device(2), lambda: torch.cuda.memory_allocated(2),
    lambda: torch.tensor([1.0], device=2), lambda: torch.cuda.get_device_properties(2),
):
    refused("invalid device ordinal: cuda:2, where there are 2 GPUs (--gpus N", call)
here = torch.ones(2, 2, device="cuda", requires_grad=True)
for call in (
    lambda: here + there, lambda: here @ there, lambda: torch.cat([here, there]),
    lambda: here + there.sum(), lambda: nn.functional.mse_loss(here, there),
):
    refused("on the same device, but found at least two devices, cuda:0 and cuda:1!", call)
is_on(first, here + torch.tensor(1.0), here.detach().copy_(there), here[torch.tensor([0])])

# the gradient goes back the way the activation came; optimizers sort tensors by device
weight = torch.ones(2, 2, device=second, requires_grad=True)
scaler = torch.amp.GradScaler()
for options in ({}, {"foreach": False}, {"fused": True}):
    optimizer = torch.optim.Adam([here, weight], **options)
    result = checkpoint(lambda x: x.to(second) @ weight, here, use_reentrant=False)
    scaler.scale(result.sum().to(first)).backward()
    scaler.unscale_(optimizer)
    is_on(first, here.grad, nn.utils.clip_grad_norm_([here, weight], 1.0))
    is_on(second, weight.grad)
    optimizer.step()
    for parameter, state in optimizer.state.items():
        is_on(parameter.device, state["exp_avg"], state["exp_avg_sq"])
"""

# a model over two GPUs by hand, whose parts have these bytes of weights and of what a layer returns
SPLIT = """
import torch
from torch import nn

WORKSPACE = 8_519_680  # of cuBLAS, for each GPU and each of the passes
MIB = 2**20
first, second = nn.Linear(1024, 4096, False).cuda(0), nn.Linear(4096, 8192, False).cuda(1)
weights = 16 * MIB, 128 * MIB
assert (torch.cuda.memory_allocated(0), torch.cuda.memory_allocated(1)) == weights
optimizer = torch.optim.Adam([first.weight, second.weight])


def more(n):
    return torch.cuda.memory_allocated(n) - before[n]


for step in range(4):
    before = torch.cuda.memory_allocated(0), torch.cuda.memory_allocated(1)
    images = torch.randn(2048, 1024, device="cuda")
    inner = first(images)
    moved = inner.to(1)
    outer = second(moved)
    new = WORKSPACE * (step == 0)
    assert more(0) == 8 * MIB + 32 * MIB + new and more(1) == 32 * MIB + 64 * MIB + new
    outer.sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    del images, inner, moved, outer
for n in range(2):  # weights and Adam's two averages
    assert torch.cuda.memory_allocated(n) == 3 * weights[n] + 2 * WORKSPACE
"""

ACCELERATE = """
import torch
from accelerate import dispatch_model, infer_auto_device_map
from accelerate.utils import get_balanced_memory
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(4000, 256)
        self.blocks = nn.ModuleList(nn.Linear(256, 256) for _ in range(16))
        self.head = nn.Linear(256, 4000, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, words):
        hidden = self.embedding(words)
        for block in self.blocks:
            hidden = block(hidden).relu()
        return self.head(hidden)


model = Model()
model.tie_weights = lambda: None
where = infer_auto_device_map(model, get_balanced_memory(model))
assert set(where.values()) == {0, 1}, where
model = dispatch_model(model, where)
for name, device in where.items():
    for parameter in model.get_submodule(name).parameters():
        assert parameter.get_device() == device, name
optimizer = torch.optim.AdamW(model.parameters())
for _ in range(3):
    model(torch.zeros(8, 64, dtype=torch.long)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
"""


@pytest.fixture
def answer(tmp_path):
    """The prediction of a script with this text."""

    def predict(text: str, *options: str) -> dict:
        script = tmp_path / "script.py"
        script.write_text(text)
        return predicted(script, *options)

    return predict


def test_two_trainings_need_what_each_needs_alone(answer, tmp_path):
    """To the byte; the answer is the fullest GPU's, and both have to fit."""
    alone = [
        answer(TRAININGS, "--gpus", "2", "--", device, width)
        for device, width in (("cuda:0", "800"), ("cuda:1", "1500"))
    ]
    assert all("devices" not in row for row in alone)
    file = tmp_path / "history.pickle"
    row = answer(
        TRAININGS, "--gpus", "2", "--gpu", "2", "--snapshot", str(file),
        "--", "cuda:0", "800", "cuda:1", "1500",
    )  # fmt: skip
    assert [one["device"] for one in row["devices"]] == ["cuda:0", "cuda:1"]
    for both, single in zip(row["devices"], alone, strict=True):
        assert {key: both[key] for key in FIGURES} == {key: single[key] for key in FIGURES}
    for key in (*FIGURES, "fits", "may_fit"):
        assert row[key] == row["devices"][1][key]
    text = str(Prediction.of(row, Options(gpus.find("2"))))
    assert (
        f"needs {row['reserved_gb']:.2f} GB of GPU memory on the fullest of 2 GPUs, cuda:1" in text
    )
    for one in row["devices"]:
        assert f"{one['device']}: {one['reserved_gb']:.2f} GB reserved, " in text
    segments = pickle.loads(file.read_bytes())["segments"]  # none was given back
    assert sum(segment["total_size"] for segment in segments) == round(row["reserved_gb"] * 1e9)
    schema.checked(row | {"batch_size": None, "samples": None})
    wrong = copy.deepcopy(row)
    wrong["devices"][0]["reserved_gb"] = "much"
    with pytest.raises(schema.Malformed, match="devices"):
        schema.checked(wrong | {"batch_size": None, "samples": None})


def test_every_name_of_a_gpu(answer):
    answer(NAMES, "--gpus", "2")


def test_a_model_over_two_gpus_by_hand(answer):
    """By arithmetic, while it runs and at its end."""
    answer(SPLIT, "--gpus", "2")


def test_a_gpu_beyond_those_that_there_are(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import torch\ntorch.zeros(1).to('cuda:1')\n")
    process = run("-m", "vramcast", script)
    assert process.returncode == 2
    assert "line 2: RuntimeError: CUDA error: invalid device ordinal: cuda:1" in process.stderr
    assert "there is 1 GPU (--gpus N says how many)" in process.stderr


def test_accelerate_spreads_a_model_over_all_gpus(answer):
    """What is tied, and on one GPU, is there once."""
    row = answer(ACCELERATE, "--gpus", "2")
    parameters = [one["breakdown_gb"]["parameters"] for one in row["devices"]]
    assert min(parameters) > 0
    assert sum(parameters) == pytest.approx(4 * (4000 * 256 + 16 * (256 * 256 + 256)) / 1e9)
