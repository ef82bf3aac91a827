"""Compiled scripts: what PyTorch's compiler makes of them, on tensors without data."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.scripts import RANK
from tests.warm import predicted

NOT_FOLLOWED = "torch.compile was not followed"
BLOCKS = """
import torch.nn.functional as F

class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        y = self.wide(self.norm(x))
        return x + self.narrow(30 * torch.tanh(F.relu(y).square() / 30))

class Net(nn.Module):
    def __init__(self, width=256, number=2):
        super().__init__()
        self.blocks = nn.ModuleList([Block(width) for _ in range(number)])
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(1))
"""
MODEL = BLOCKS + "model = compiled = Net().cuda()\n"
STEPS = """
optimizer = torch.optim.AdamW(model.parameters())
for _ in range(4):
    x = torch.randn(64, 128, 256, device="cuda")
    F.cross_entropy(compiled(x), torch.zeros(64, dtype=torch.long, device="cuda")).backward()
    optimizer.step()
    optimizer.zero_grad()
"""
WHOLE = MODEL + "compiled = torch.compile(model)\n" + STEPS


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return _predicted(tmp_path_factory.mktemp("whole"), WHOLE)


def _predicted(folder, text: str, *options: str) -> dict:
    script = folder / "train.py"
    script.write_text("import torch\nfrom torch import nn\n" + text)
    return predicted(script, *options)


def _followed(row: dict) -> bool:
    return not any(NOT_FOLLOWED in note or "as if uncompiled" in note for note in row["notes"])


def _kept_on_a_cpu() -> int:
    """Bytes that the compiled forward pass of the same model keeps, its parameters aside.

    Dynamo, AOTAutograd and the partition of its graph are Inductor's; real tensors are on the CPU.
    """
    names: dict = {"torch": torch, "nn": nn}
    exec(BLOCKS, names)
    model = names["Net"]()
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = math.ceil(storage.nbytes() / 512) * 512
        return tensor

    x = torch.randn(64, 128, 256)
    run = torch.compile(model, backend="aot_eager_decomp_partition")
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = run(x)
    F.cross_entropy(result, torch.zeros(64, dtype=torch.long)).backward()
    return sum(size for place, size in kept.items() if place not in own)


def test_a_compiled_step_keeps_what_the_same_graph_keeps_on_a_cpu(whole):
    assert _followed(whole)
    kept = whole["breakdown_gb"]["activations"] * 1e9
    assert kept == pytest.approx(_kept_on_a_cpu(), rel=1e-3)


def test_compiled_less_is_kept_and_the_answer_says_what_it_would_be_uncompiled(whole, tmp_path):
    plain = _predicted(tmp_path, WHOLE, "--eager")
    assert whole["allocated_gb"] < 0.8 * plain["allocated_gb"]
    assert whole["uncompiled_gb"] == {
        "reserved": plain["reserved_gb"], "allocated": plain["allocated_gb"],
    }  # fmt: skip
    assert whole["like"] == plain["like"] == "compiled"
    assert "uncompiled_gb" not in plain
    assert any("as if uncompiled" in note for note in plain["notes"])


def test_the_peak_is_at_the_compiled_model(whole):
    assert whole["peak_module"] == "model (Net)"
    assert whole["breakdown_gb"]["parameters"] == pytest.approx(
        whole["breakdown_gb"]["optimizer"] / 2, rel=0.01
    )


KINDS = {
    "in place": MODEL + "model.compile(fullgraph=True)\n" + STEPS,
    "each block": MODEL + "for block in model.blocks: block.compile()\n" + STEPS,
    "a graph break": MODEL.replace(
        "        return self.head", "        print(x.sum().item())\n        return self.head"
    ) + "compiled = torch.compile(model)\n" + STEPS,
    "a function, and the optimizer's step": MODEL + """
optimizer = torch.optim.AdamW(model.parameters())

@torch.compile(mode="reduce-overhead")
def loss_of(x):
    return F.cross_entropy(model(x), torch.zeros(len(x), dtype=torch.long, device="cuda"))

@torch.compile
def step():
    optimizer.step()

for _ in range(4):
    loss_of(torch.randn(64, 128, 256, device="cuda")).backward()
    step()
    optimizer.zero_grad()
""",
    "other sizes, and an evaluation": MODEL + "compiled = torch.compile(model)\n" + STEPS + """
    with torch.no_grad():
        for size in (40, 24):
            compiled(torch.randn(size, 128, 256, device="cuda")).argmax(-1)
""",
    "autocast": MODEL + "compiled = torch.compile(model)\n" + STEPS.replace(
        "    F.cross_entropy(compiled(x)",
        "    with torch.autocast('cuda', torch.bfloat16): x = compiled(x)\n    F.cross_entropy(x",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_followed(tmp_path, kind):
    row = _predicted(tmp_path, KINDS[kind])
    assert _followed(row), row["notes"]
    assert row["allocated_gb"] <= 1.05 * row["uncompiled_gb"]["allocated"]
    if "reduce-overhead" in KINDS[kind]:
        assert any("CUDA graphs" in note for note in row["notes"])


def test_a_rank_whose_blocks_are_compiled_is_followed(tmp_path):
    sharded = """
from torch.distributed.fsdp import fully_shard
model = compiled = Net().cuda()
for block in model.blocks:
    block.compile()
    fully_shard(block)
fully_shard(model)
"""
    row = _predicted(tmp_path, RANK + BLOCKS + sharded + STEPS, "--gpus", "4")
    assert _followed(row), row["notes"]


def test_in_distributed_data_parallel_each_bucket_has_a_graph(tmp_path):
    """One backward pass for each keeps other tensors than one for all, which an option asks for."""
    parallel = """
model = Net().cuda()
compiled = nn.parallel.DistributedDataParallel(
    torch.compile(model, fullgraph=True), device_ids=[0], bucket_cap_mb=1
)
"""
    text = RANK + BLOCKS + parallel + STEPS
    whole = "import torch._dynamo\ntorch._dynamo.config.optimize_ddp = False\n" + text
    cut, uncut = (_predicted(tmp_path, one, "--gpus", "4") for one in (text, whole))
    assert _followed(cut), cut["notes"]
    assert _followed(uncut), uncut["notes"]
    assert cut["breakdown_gb"]["activations"] != uncut["breakdown_gb"]["activations"]


def test_flex_attention_is_a_part_of_the_graph(tmp_path):
    attention = """
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
mask = create_block_mask(lambda b, h, i, j: i >= j, None, None, 128, 128, device="cuda")

class Attention(nn.Module):
    def forward(self, x):
        x = x.view(64, 128, 4, 64).transpose(1, 2)
        return flex_attention(x, x, x, block_mask=mask).transpose(1, 2).reshape(64, 128, 256)

model = Net().cuda()
model.blocks.append(Attention())
compiled = torch.compile(model, fullgraph=True)
"""
    row = _predicted(tmp_path, BLOCKS + attention + STEPS)
    assert _followed(row), row["notes"]


def test_with_a_smaller_budget_less_is_kept(whole, tmp_path):
    budget = "torch._functorch.config.activation_memory_budget = 0.3\n"
    row = _predicted(tmp_path, "import torch._functorch.config\n" + budget + WHOLE)
    assert row["breakdown_gb"]["activations"] < 0.6 * whole["breakdown_gb"]["activations"]


def test_sizes_that_no_tensor_core_takes_are_padded_and_a_note_says_so(tmp_path):
    odd = WHOLE.replace("nn.Linear(width, 10)", "nn.Linear(width, 50_001)")
    row = _predicted(tmp_path, odd.replace(".mean(1)", ".bfloat16()").replace(
        "model = compiled = Net()", "model = compiled = Net().bfloat16()"
    ).replace("x = torch.randn(64, 128, 256,", "x = torch.randn(2, 128, 256, dtype=torch.bfloat16,")
        .replace("F.cross_entropy(compiled(x), torch.zeros(64, dtype=torch.long, device=\"cuda\"))",
                 "compiled(x).float().logsumexp(-1).sum()"))  # fmt: skip
    assert _followed(row), row["notes"]
    assert any("pads products" in note for note in row["notes"])


def test_what_cannot_be_followed_is_predicted_uncompiled_with_the_reason(tmp_path):
    text = KINDS["a graph break"].replace(
        "torch.compile(model)", "torch.compile(model, fullgraph=True)"
    )
    row = _predicted(tmp_path, text)
    (reason,) = [note for note in row["notes"] if NOT_FOLLOWED in note]
    assert "print" in reason
    plain = _predicted(tmp_path, text, "--eager")
    assert (row["reserved_gb"], row["allocated_gb"]) == (
        plain["reserved_gb"],
        plain["allocated_gb"],
    )
