"""What a step costs: against counts worked by hand, and against what was published."""

import json

import pytest

from ladder.pages.costs import relative, tflop
from ladder.predict import KEPT
from ladder.rows import by_script
from ladder.rungs import ROOT, read_ladder
from tests.warm import predict, predicted
from vramcast import gpus
from vramcast.operators.attention import causal_share

PUBLISHED = {
    row["script"]: row
    for row in json.loads((ROOT / "results" / "published.json").read_text())["rows"]
    if "minutes" in row and not row["script"].startswith("bonus")  # their texts are ours
}
TOKENS, WIDTH, BLOCKS = 197, 1024, 24  # of ViT-L/16
COMMON = """
import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

def loader(*shape, size=8):
    return DataLoader(TensorDataset(torch.zeros(1000, *shape)), batch_size=size)
"""
LINEAR = """
model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.Linear(32, 16)).cuda()
optimizer = torch.optim.SGD(model.parameters())
for epoch in range(3):
    for number, (batch,) in enumerate(loader(64, size={micro})):
        model(batch.cuda()).sum().backward()
        if number % {every} == {every} - 1:
            optimizer.step()
            optimizer.zero_grad()
    with torch.no_grad():  # is no part of a training step
        for (batch,) in loader(64, size=500):
            model(batch.cuda())
"""
CONVOLUTION = """
model = torch.nn.Conv2d(3, 8, 5, padding=2).cuda()
optimizer = torch.optim.SGD(model.parameters())
for (batch,) in loader(3, 10, 10):
    model(batch.cuda()).sum().backward()
    optimizer.step()
"""
ATTENTION = """
torch.set_float32_matmul_precision("high")
weight = torch.nn.Parameter(torch.zeros(8, device="cuda"))
optimizer = torch.optim.SGD([weight])
for (batch,) in loader(2, 16, 8):
    some = (batch.cuda() * weight).{dtype}()
    F.scaled_dot_product_attention(some, some, some, is_causal={causal}).sum().backward()
    optimizer.step()
"""
CHECKPOINT = """
layers = [torch.nn.Linear(64, 64).cuda() for _ in range(3)]
optimizer = torch.optim.SGD([p for layer in layers for p in layer.parameters()])
def block(layer, x):
    return F.gelu(layer(x)) * 2
for (batch,) in loader(64):
    x = batch.cuda().requires_grad_()
    for layer in layers:
        x = checkpoint(block, layer, x, use_reentrant=False) if {again} else block(layer, x)
    (x * x).sum().backward()
    optimizer.step()
"""
SHARDED = """
import torch.distributed as dist
from torch.distributed.fsdp import FullyShardedDataParallel as FSDP
dist.init_process_group("nccl")
model = FSDP(torch.nn.Linear(64, 64, bias=False, device="cuda"))
optimizer = torch.optim.SGD(model.parameters())
for (batch,) in loader(64):
    model(batch.cuda()).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
"""


@pytest.fixture
def cost(tmp_path):
    """A function that predicts a small script's cost."""

    def ask(text: str, *arguments: str, **values: object) -> dict:
        path = tmp_path / "script.py"
        path.write_text(COMMON + (text.format(**values) if values else text))
        return predicted(path, *arguments)["cost"]

    return ask


def test_products_are_counted_forward_and_backward(cost):
    found = cost(LINEAR, micro=8, every=1)
    # the first layer's input needs no gradient
    operations = 2 * (64 * 32 * 2 + 32 * 16 * 3)
    assert found["samples_per_step"] == 8
    assert found["tflop_per_sample"] == {"float32": pytest.approx(operations / 1e12)}
    assert found["to_gpu_gb_per_step"] == 8 * 64 * 4 / 1e9
    assert found["to_host_gb_per_step"] == found["between_gpus_gb_per_step"] == 0


def test_accumulation_changes_no_samples_arithmetic(cost):
    whole, parts = cost(LINEAR, micro=8, every=1), cost(LINEAR, micro=2, every=4)
    assert parts["samples_per_step"] == whole["samples_per_step"] == 8
    assert parts["tflop_per_sample"] == pytest.approx(whole["tflop_per_sample"])
    assert parts["kernels_per_sample"] > whole["kernels_per_sample"]
    assert parts["to_gpu_gb_per_step"] == whole["to_gpu_gb_per_step"]


def test_convolutions_are_counted(cost):
    found = cost(CONVOLUTION)
    forward = 2 * 10 * 10 * 8 * 3 * 5 * 5  # the backward pass: the weight's gradient, no input's
    assert found["tflop_per_sample"] == {"tf32": pytest.approx(2 * forward / 1e12)}


@pytest.mark.parametrize(("dtype", "precision"), [("bfloat16", "bfloat16"), ("float", "tf32")])
@pytest.mark.parametrize(("causal", "pairs"), [(False, 16 * 16), (True, 16 * 17 / 2)])
def test_attention_is_counted(cost, dtype, precision, causal, pairs):
    found = cost(ATTENTION, dtype=dtype, causal=causal)
    # two products of the queries' and keys' pairs forward; five backward, one of them again
    assert found["tflop_per_sample"] == {precision: pytest.approx(7 * 2 * 2 * 8 * pairs / 1e12)}


@pytest.mark.parametrize(("queries", "keys"), [(4, 4), (3, 7), (7, 3)])
def test_a_causal_mask_leaves_these_pairs(queries, keys):
    pairs = sum(key <= query for query in range(queries) for key in range(keys))
    assert causal_share(queries, keys) == pairs / (queries * keys)


def test_computing_again_costs_a_third_more(cost):
    once, again = cost(CHECKPOINT, again=False), cost(CHECKPOINT, again=True)
    ratio = again["tflop_per_sample"]["float32"] / once["tflop_per_sample"]["float32"]
    assert ratio == pytest.approx(4 / 3)


@pytest.mark.parametrize("ranks", [2, 4])
def test_a_sharded_step_moves_what_a_ring_moves(cost, ranks):
    """One gathering, since the outermost unit stays whole between its passes, one scattering."""
    found = cost(SHARDED, "--gpus", str(ranks))
    moved = 2 * 64 * 64 * 4 * (ranks - 1) / ranks
    assert found["between_gpus_gb_per_step"] == pytest.approx(moved / 1e9)


# --------------------------------------------------------------------------------------- the ladder


@pytest.fixture
def rows() -> dict[str, dict]:
    """What is recorded of the rungs; test_predict_ladder.py holds it against new predictions."""
    return by_script(ROOT / "results" / "predicted.json")


def test_the_rungs_cost_what_their_lessons_say(rows):
    folder = "11-16-under-1gb/"
    assert tflop(rows["05_gradient-accum.py"]) == pytest.approx(
        tflop(rows["04_lower-batchsize.py"])
    )
    # A block is computed again up to its last product, whose result nothing needs (that is what
    # non-reentrant checkpointing stops at): three of four products, and attention.
    linear = 2 * TOKENS * WIDTH * (3 + 1 + 4) * WIDTH
    attention = 2 * 2 * TOKENS * TOKENS * WIDTH
    again = BLOCKS * (linear + attention) / 1e12
    without = tflop(rows["07-2_whole-batch.py"])
    checkpointed = tflop(rows[folder + "11_act-checkp.py"])
    assert checkpointed - without == pytest.approx(again)
    shares = relative(read_ladder(), rows)
    assert shares[folder + "11_act-checkp.py"][0] == pytest.approx(checkpointed / without)
    assert shares["01_pytorch-fp32.py"] == (1, 1)
    assert shares["02_mixed-precision.py"] == pytest.approx((1, 1))


def test_offloaded_bytes_move_twice(rows):
    """Each block's input, and little else: there, and back; and the images with their labels."""
    cost = rows["11-16-under-1gb/14-3_activation-offload.py"]["cost"]
    batch = 16 * (3 * 32 * 32 * 4 + 8)
    offloaded = cost["to_host_gb_per_step"]
    assert cost["to_gpu_gb_per_step"] == pytest.approx(offloaded + batch / 1e9)
    inputs = BLOCKS * 16 * TOKENS * WIDTH * 2 / 1e9
    assert inputs < offloaded < 1.1 * inputs


def test_nothing_published_was_faster_than_the_bound(rows):
    """On what it was measured on, an A100."""
    compared = set(rows) & set(PUBLISHED)
    assert len(compared) >= 3
    for script in compared:
        least = max(rows[script]["cost"]["least_minutes_per_epoch"].values())
        assert 0 < least < PUBLISHED[script]["minutes"], script


def test_the_cost_is_kept_and_told(rows):
    assert "cost" in KEPT
    process = predict("07_init-module.py")
    (line,) = [line for line in process.stdout.splitlines() if line.startswith("  cost: ")]
    assert "0.371 TFLOP" in line
    assert "at least" in line
    assert "seconds an epoch on A100-80" in line


def test_every_known_gpu_has_a_speed():
    for model in gpus.KNOWN.values():
        assert 0 < model.speed.tflops["float32"] <= model.speed.tflops["tf32"]
        assert model.speed.host <= model.speed.gpus
    assert gpus.find("24 GB").speed == gpus.DEFAULT.speed
    assert sum(model.speed == gpus.DEFAULT.speed for model in gpus.KNOWN.values()) == 2
