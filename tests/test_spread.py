"""What ranks share: inputs, statistics, and tensors that are spread over them (DTensor).

The scripts here check themselves, against arithmetic: a failed `assert` is no prediction.
"""

import pytest

from tests.warm import predict, predicted

TAKEN = """
def blocks(*sizes):
    return sum(-(-size // 512) * 512 for size in sizes)

def taken(what):
    \"\"\"What it returns, what that takes, and the most that is taken meanwhile.\"\"\"
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    result = what()
    return (
        result, torch.cuda.memory_allocated() - before, torch.cuda.max_memory_allocated() - before
    )
"""
GROUP = """
import os
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh

dist.init_process_group("cpu:gloo,cuda:nccl")
torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
mesh = init_device_mesh("cuda", (dist.get_world_size(),))
"""


@pytest.fixture
def answer(script):
    """The prediction of a script with this text, which is rank 0 of 4."""
    return lambda text: predicted(script(GROUP + TAKEN + text), "--gpus", "4")


def test_inputs_are_moved_and_statistics_are_shared(answer):
    """DistributedDataParallel moves what is in lists, tuples and dictionaries, too.

    Synchronized batch norm keeps its input, a mean and a deviation for each channel and a count for
    each rank. Where channels come last, 128 blocks add up each channel, with four numbers each.
    """
    row = answer("""
class Sums(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(1024, 1024)

    def forward(self, first, pair, *, named, name):
        tensors = first, pair[0], pair[1]["x"], named
        assert all(tensor.device == torch.device("cuda:0") for tensor in tensors), tensors
        return sum(map(self.linear, tensors))

model = nn.parallel.DistributedDataParallel(Sums().cuda(), device_ids=[0])
optimizer = torch.optim.SGD(model.parameters(), 0.1)
x = torch.zeros(20, 1024)
for _ in range(2):
    model(x, (x, {"x": x, "n": 3}), named=x, name="a").sum().backward()
    optimizer.step()
model.zero_grad()
with model.join():
    model(x, (x, {"x": x}), named=x, name="a")
model._set_static_graph()

layers = nn.Sequential(nn.Linear(512, 1024), nn.Linear(1024, 8)).cuda()
Parallel = nn.parallel.DistributedDataParallel
Parallel._set_params_and_buffers_to_ignore_for_model(layers, ["0.weight"])
layers, kept, _ = taken(lambda: Parallel(layers))
assert kept == blocks(4 * (1024 + 1024 * 8 + 8)), kept  # the buckets of the other gradients
layers.register_comm_hook(None, None)

norm = nn.SyncBatchNorm.convert_sync_batchnorm(nn.BatchNorm2d(2048)).cuda()
image = torch.zeros(64, 2048, 8, 8, device="cuda", requires_grad=True)
size, channels = 4 * image.numel(), 4 * 2048
for layout in (torch.contiguous_format, torch.channels_last):
    given = image.to(memory_format=layout)
    output, kept, most = taken(lambda: norm(given))
    assert kept == blocks(size, channels, channels, 4 * 4), kept
    staged = 4 * channels * 16 if layout == torch.channels_last else 0
    assert most >= max(kept, staged), (kept, most)
    assert output.stride() == given.stride()
output.sum().backward()
assert image.grad.shape == image.shape and norm.weight.grad.shape == (2048,)
half = norm(torch.zeros(8, 2048, 8, 8, device="cuda", dtype=torch.float16))
assert half.dtype == torch.float16
""")
    (note,) = row["notes"]  # none on the mask that looks for ranks without input
    assert "a communication hook" in note


def test_a_sharded_model_is_made_clipped_and_saved(answer):
    """From the "meta" device on, as PyTorch's example does it.

    The norm of a list takes a number for each 65,536 numbers of its largest tensor, for each.
    """
    answer("""
import torch.distributed.checkpoint as checkpoint
from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict, get_optimizer_state_dict, set_model_state_dict, set_optimizer_state_dict,
)
from torch.distributed.fsdp import fully_shard

with torch.device("meta"):
    model = nn.Sequential(*(nn.Linear(1024, 4096) if i % 2 == 0 else nn.Linear(4096, 1024)
                            for i in range(4)))
for layer in model:
    fully_shard(layer)
fully_shard(model)
_, kept, most = taken(lambda: model.to_empty(device="cuda"))
parts = [parameter.numel() * 4 // 4 for parameter in model.parameters()]
assert kept == most == blocks(*parts), (kept, most)

def initialize():
    for layer in model:
        layer.reset_parameters()
        nn.init.trunc_normal_(layer.weight, std=0.02)
        nn.init.zeros_(layer.bias)

assert taken(initialize)[1] == 0
optimizer = torch.optim.AdamW(model.parameters())
for foreach in (None, True, False):
    model(torch.zeros(8, 1024, device="cuda")).sum().backward()
    norm, kept, most = taken(
        lambda: torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=foreach)
    )
    assert kept == 512 and norm.full_tensor().item() == 0, kept
    norms = blocks(*[4] * 8)
    if foreach is not False:  # each of 8 tensors: as many chunks as 1024 * 1024 numbers have
        norms += blocks(8 * 16 * 4)
    assert norms <= most <= norms + 4096, (foreach, most, norms)
    optimizer.step()
    optimizer.zero_grad()
    states = {"model": get_model_state_dict(model), "step": 7,
              "optimizer": get_optimizer_state_dict(model, optimizer)}
    saved = [torch.cuda.memory_allocated()]
    checkpoint.save(states, checkpoint_id="saved")
    assert os.path.exists("saved/.metadata")
    states["step"] = 0
    checkpoint.load(states, checkpoint_id="saved")
    assert states["step"] == 7
    checkpoint.async_save(states, checkpoint_id="later").result()
    set_model_state_dict(model, states["model"])
    set_optimizer_state_dict(model, optimizer, states["optimizer"])
    torch.save(model.state_dict(), "part.pt")
    part = torch.load("part.pt", weights_only=False)["0.weight"]
    assert part.shape == (4096, 1024) and part.to_local().shape == (1024, 1024)
try:
    checkpoint.load({}, checkpoint_id="nowhere")
except FileNotFoundError:
    pass
else:
    raise AssertionError
""")


def test_a_spread_tensor_meets_the_kernels_of_a_gpu(answer):
    """What is gathered takes no copy more than NCCL's, and dropout keeps a mask of bytes."""
    answer("""
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

whole = torch.zeros(1024, 1024, device="cuda")
size = 4 * whole.numel()
rows = distribute_tensor(whole, mesh, [Shard(0)])
columns = distribute_tensor(whole, mesh, [Shard(1)])
assert taken(rows.full_tensor)[1:] == (size, size)
assert taken(columns.full_tensor)[1:] == (size, 2 * size)  # it is gathered by rows
assert taken(lambda: rows.redistribute(mesh, [Shard(1)]))[1:] == (size // 4, 2 * size // 4)
assert rows.to("cuda") is rows and rows.cuda() is rows

rows.requires_grad_()
dropped, kept, _ = taken(lambda: F.dropout(rows, 0.5))
assert kept == size // 4 + size // 16, kept

def attend(heads):
    query = distribute_tensor(heads, mesh, [Shard(1)]).requires_grad_()
    return taken(lambda: F.scaled_dot_product_attention(query, query, query, is_causal=True))

heads = torch.zeros(2, 16, 512, 64, device="cuda", dtype=torch.bfloat16)
output, kept, _ = attend(heads)
sums = 4 * 2 * 16 * 512
assert kept <= blocks(2 * heads.numel() // 4, sums // 4) + 2048, kept

linear = nn.Linear(1024, 1024, device="cuda")
weight = DTensor.from_local(linear.weight.detach(), mesh, [Replicate()]).requires_grad_()
with torch.autocast("cuda", torch.bfloat16):
    assert F.linear(rows, weight).dtype == torch.bfloat16
optimizer = torch.optim.SGD([weight])
for _ in range(2):
    F.linear(rows, weight).sum().backward()
    optimizer.step()
linear(whole)
""")


def test_of_replicas_in_one_process_the_first_is_predicted(script):
    """Its own gradients and their sums are there at once; of outputs, those of all replicas."""
    text = (
        TAKEN
        + """
model = nn.DataParallel(nn.Linear(4096, 4096, bias=False).cuda())
optimizer = torch.optim.SGD(model.parameters())
size = 4 * 4096 * 4096
for place in ("cpu", "cuda", "cuda"):
    model.zero_grad()
    images = torch.zeros(64, 4096, device=place)
    output, kept, most = taken(lambda: model(images))
    assert output.shape == images.shape
    _, kept, most = taken(output.sum().backward)
    optimizer.step()
assert kept == size and 2 * size < most <= 2 * size + 12 * 2**20, (kept, most)
"""
    )
    (note,) = predicted(script(text), "--gpus", "4")["notes"]
    assert "first of 4 GPUs" in note
    assert "DistributedDataParallel" in note
    assert not predicted(script(text.split("assert kept")[0]))["notes"]


def test_a_pipeline_over_several_gpus_is_refused_in_a_sentence(script):
    file = script(
        GROUP
        + """
from torch.distributed.pipelining import PipelineStage
stage = PipelineStage(nn.Linear(8, 8).cuda(), 0, 4, torch.device("cuda"))
"""
    )
    process = predict("--gpus", "4", file)
    assert process.returncode == 2
    assert "line 14: a pipeline: what its stages on other GPUs" in process.stderr
