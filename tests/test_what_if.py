"""Techniques applied from outside need what scripts need that were written with them."""

import json
from collections import Counter

import pytest
import torch
from torchvision.models import resnet50, vit_b_16

from ladder import examples
from ladder.rows import by_script
from ladder.rungs import ROOT
from tests.scripts import DEEP, LOOP, TIGHT
from tests.warm import predict, predicted
from vramcast import gpus
from vramcast.command.what_if import _next
from vramcast.techniques import blocks, catalog, updates, weights

WRITTEN = by_script(ROOT / "results" / "predicted.json") | by_script(examples.RESULTS)
PLAIN = "04_lower-batchsize.py"  # 03 with batches of 16
UNDER = "11-16-under-1gb"
SELECTIVE = "selective-checkpointing,free-gradients,sgd"
MANY = "checkpointing,in-backward,bf16-autocast,fused"
SAME_AS = [  # a script, techniques, a batch size in the place of its own; and the script with them
    ("01_pytorch-fp32.py", "bf16-autocast", None, "02-2_bf16-mixed.py"),
    ("01_pytorch-fp32.py", "bf16", None, "03_bfloat16.py"),
    ("03_bfloat16.py", "free-gradients", 16, "04-2_free-gradients.py"),
    ("03_bfloat16.py", "last-blocks", None, "03-3_last-blocks.py"),
    ("05_gradient-accum.py", "adafactor", None, "06-2_adafactor.py"),
    (PLAIN, "checkpointing,free-gradients,sgd", None, f"{UNDER}/11_act-checkp.py"),
    (PLAIN, SELECTIVE, None, f"{UNDER}/11-2_selective-checkp.py"),
    (PLAIN, "checkpointing,in-backward,sgd", None, f"{UNDER}/12_optimizer-in-backward.py"),
    (PLAIN, "offload,in-backward,sgd", None, f"{UNDER}/14-3_activation-offload.py"),
    (PLAIN, "checkpointing,in-backward,adamw-8bit", None, f"{UNDER}/14_adamw-8bit.py"),
    (PLAIN, "checkpointing,in-backward,adamw-4bit", None, f"{UNDER}/14-2_adamw-4bit.py"),
    (PLAIN, "checkpointing,free-gradients,lora", None, f"{UNDER}/15_lora.py"),
    (PLAIN, "checkpointing,free-gradients,qlora", None, f"{UNDER}/16_qlora.py"),
    ("examples/your_model/language_model.py", MANY, None, ""),
    ("examples/your_model/resnet.py", "checkpointing,bf16-autocast", None, ""),
    ("examples/your_model/trainer.py", "checkpointing,bf16-autocast,adafactor", None, ""),
    ("examples/out_of_memory/first_step.py", "fused", None, ""),
]  # fmt: skip


@pytest.mark.parametrize(("script", "names", "batch", "written"), SAME_AS)
def test_what_if_is_what_the_technique_needs_when_it_is_written(script, names, batch, written):
    words = ["--with", names, *(["--batch-size", batch] if batch else []), script]
    row = predicted(*words)
    known = WRITTEN[written or script.replace(".py", "_after.py")]
    for key in ("reserved_gb", "allocated_gb"):
        assert row[key] == pytest.approx(known[key], rel=0.02), key


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)


def test_blocks_are_those_that_repeat():
    def classes(model: torch.nn.Module) -> dict[str, int]:
        return dict(Counter(type(one).__name__ for one in blocks.repeated(model)))

    nn = torch.nn
    assert classes(vit_b_16()) == {"EncoderBlock": 12}
    assert classes(resnet50()) == {"Bottleneck": 16}
    assert classes(nn.Transformer(8, 2, 3, 2)) == {
        "TransformerEncoderLayer": 3,
        "TransformerDecoderLayer": 2,
    }
    assert classes(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))) == {}
    assert classes(nn.ModuleDict({"down": Block(), "up": Block()})) == {"Block": 2}
    assert classes(nn.Sequential(*[nn.Sequential(nn.Linear(4, 4), nn.ReLU())] * 3)) == {}
    convolutions = [nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)) for _ in range(3)]
    assert classes(nn.Sequential(*convolutions)) == {"Sequential": 3}


def test_what_is_behind_the_blocks_is_the_head():
    model = vit_b_16()
    found = {id(one) for one in blocks.behind(model, blocks.repeated(model))}
    names = [name for name, one in model.named_parameters() if id(one) in found]
    assert names == ["encoder.ln.weight", "encoder.ln.bias", "heads.head.weight", "heads.head.bias"]


def test_the_catalog_names_pages_that_exist_and_all_techniques_can_be_applied():
    for one in catalog.KNOWN.values():
        assert (ROOT / "docs" / f"{one.page}.md").is_file(), one.page
    done = {*weights.TO_MODELS, *updates.REPLACED, *updates.SETTINGS}
    done |= {"accumulate", "free-gradients", "in-backward", "expandable-segments"}
    done |= {"chunked-loss", "fsdp2"}
    assert done == set(catalog.KNOWN)


def test_techniques_that_exclude_each_other_are_refused():
    assert catalog.read("sgd,checkpointing") == ("sgd", "checkpointing")
    for text, told in (
        ("sgd,adafactor", "at the same time"),
        ("accumulate,in-backward", "at the same time"),
        ("chekpointing", "no technique is called 'chekpointing'; there are bf16-autocast"),
    ):
        process = predict("--with", text, PLAIN)
        assert process.returncode == 2
        assert told in process.stderr


def changed(lines: str) -> str:
    """The training with more lines before the optimizer's step."""
    return DEEP + LOOP.replace("    optimizer.step()", f"    {lines}\n    optimizer.step()")


@pytest.mark.parametrize(
    ("text", "names", "told"),
    [
        (changed("nn.utils.clip_grad_norm_(model.parameters(), 1)"), "in-backward", "it clips"),
        (changed("model(images.cuda()).sum().backward()"), "in-backward", "several backward"),
        (DEEP + LOOP, "checkpointing", "no repeated blocks"),
        (DEEP + LOOP, "adafactor,fused", "at the same time"),
        ("model = nn.Linear(8, 8).cuda()\nmodel(torch.ones(8, 8).cuda())\n", "sgd", "there is no"),
    ],
)
def test_what_cannot_be_applied_is_said(script, text, names, told):
    process = predict("--with", names, script(text))
    assert process.returncode == 2
    assert told in process.stderr


ADAM = """
class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(256, 1024), nn.GELU(), nn.Linear(1024, 256))

    def forward(self, x):
        return x + self.layers(x)

model = nn.Sequential(*[Block() for _ in range(4)]).cuda()
from torch.utils.data import DataLoader, TensorDataset
optimizer = torch.optim.Adam(model.parameters())
for (x,) in DataLoader(TensorDataset(torch.zeros(8192, 256)), batch_size=4096):
    optimizer.zero_grad()
    model(x.cuda()).sum().backward()
    optimizer.step()
"""


WORDS = """
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

class Language(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(32_768, 256)
        layer = nn.TransformerEncoderLayer(256, 4, 1024, dropout=0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 4)
        self.head = nn.Linear(256, 32_768)

    def forward(self, words):
        return self.head(self.layers(self.embedding(words)))

model = Language()
# sharded
model.cuda()
optimizer = torch.optim.Adam(model.parameters())
for _ in range(3):
    words = torch.randint(32_768, (8, 257), device="cuda")
    logits = model(words[:, :-1])
    loss = F.cross_entropy(logits.flatten(0, 1).float(), words[:, 1:].flatten())
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
"""
SHARDED = """
from torch.distributed.fsdp import fully_shard
torch.distributed.init_process_group("nccl")
for layer in model.layers.layers:
    fully_shard(layer)
fully_shard(model)
"""
IN_CHUNKS = """
    hidden = model.layers(model.embedding(words[:, :-1]))
    parts = zip(hidden.flatten(0, 1).chunk(16), words[:, 1:].flatten().chunk(16))
    part = lambda hidden, target: F.cross_entropy(model.head(hidden), target, reduction="sum")
    losses = [checkpoint(part, *each, use_reentrant=False) for each in parts]
    loss = torch.stack(losses).sum() / (8 * 256)
"""


@pytest.mark.parametrize(
    ("name", "before", "written"),
    [
        ("fsdp2", "# sharded\n", SHARDED),
        ("chunked-loss", WORDS[WORDS.index("    logits") : WORDS.index("    loss.b")], IN_CHUNKS),
    ],
)
def test_fsdp2_and_chunked_losses_need_what_they_need_when_written(script, name, before, written):
    plain = script(WORDS)
    row, without = predicted("--with", name, plain), predicted(plain)
    by_hand = predicted(script(WORDS.replace(before, written)))
    for key in ("reserved_gb", "allocated_gb"):
        assert row[key] == pytest.approx(by_hand[key], rel=0.02), key
    assert row["allocated_gb"] < 0.97 * without["allocated_gb"]


def test_what_fsdp2_and_chunked_losses_are_not_applied_to(script):
    process = predict("--with", "fsdp2", script(WORDS.replace("# sharded\n", SHARDED)))
    assert "fsdp2 is for a script that trains on one GPU" in process.stderr
    used = script(WORDS.replace("    loss.b", "    right = logits.argmax(-1)\n    loss.b"))
    process = predict("--with", "chunked-loss", used)
    assert "its logits are used otherwise than in a cross-entropy: argmax" in process.stderr


def test_the_number_of_a_batch_is_still_known_with_another_batch_size(script):
    file = script("size = 64\n" + ADAM.replace("batch_size=4096", "batch_size=size"))
    process = predict("--json", "--what-if", "--batch-size", "32", file)
    notes = [one.get("notes", []) for one in json.loads(process.stdout)["what_if"]]
    assert len(notes) > 5
    assert not [note for some in notes for note in some if "was given other batches" in note]


def test_accumulation_splits_the_batch_and_takes_each_fourth_step(script):
    """The gradients live on, and of activations there are a quarter."""
    file = script(ADAM)
    row, whole = predicted("--with", "accumulate", file), predicted(file)
    parts = [one["breakdown_gb"] for one in (row, whole)]
    assert parts[0]["activations"] == pytest.approx(parts[1]["activations"] / 4, rel=0.1)
    assert "batches of 4096 are accumulated from micro-batches of 1024" in row["notes"]


def test_what_if_ranks_techniques_and_finds_the_smallest_set_that_fits(script):
    file = script(ADAM)
    plain = predicted(file)
    process = predict("--json", "--what-if", "--gpu", "0.96", file)
    assert process.returncode == 1
    found = json.loads(process.stdout)
    needs = [one["reserved_gb"] for one in found["what_if"] if "error" not in one]
    assert needs == sorted(needs)
    assert needs[0] < plain["reserved_gb"]
    best = found["fits_with"]
    assert best["fits"]
    assert all(catalog.KNOWN[name].changes == catalog.SAME for name in best["techniques"])
    words = ["--with", ",".join(best["techniques"]), "--gpu", "0.96", file]
    assert predicted(*words)["reserved_gb"] == best["reserved_gb"]
    assert best["largest_batch"] >= 4096
    for told in ("checkpointing ", f"{', '.join(best['techniques'])}: ", "the largest"):
        assert told in process.stderr


def test_a_set_grows_by_one_or_changes_one_for_another():
    found = list(_next(("sgd", "checkpointing"), ["adafactor", "offload", "fused", "sgd"]))
    assert found == [("checkpointing", "adafactor"), ("sgd", "offload")]


def test_expandable_segments_are_those_of_the_variable(script):
    file = script(ADAM)
    row = predicted("--with", "expandable-segments", file)
    assert row["reserved_gb"] == predicted(file, **TIGHT)["reserved_gb"]
    assert row["reserved_gb"] != predicted(file)["reserved_gb"]


def test_why_names_the_largest_tensors(script):
    file = script(ADAM)
    row = predicted("--why", file)
    assert sum(one["gb"] for one in row["largest"]) <= row["allocated_gb"] * 1.001
    found = {one["what"]: one for one in row["largest"]}
    hidden = found["line 11: addmm in *.layers.* (Linear), [4096, 1024] float32"]
    assert (hidden["count"], hidden["kind"]) == (4, "activations")
    assert row["after_step_gb"]["optimizer"] == row["breakdown_gb"]["optimizer"]
    told = predict("--why", file).stdout
    assert "stays after a step: parameters 0.01, gradients 0.01, optimizer 0.02" in told


def test_all_gpus_are_judged_as_each_is_by_its_name(script):
    """T4 is the only kind of its compute capability but an older one with less memory."""
    file = script(ADAM.replace("1024", "65_536"))
    process = predict("--json", "--gpu", "all", file)
    assert process.returncode == 0
    rows = {row["gpu"]: row for row in json.loads(process.stdout)["rows"]}
    assert list(rows) == sorted(gpus.KNOWN, key=lambda name: gpus.KNOWN[name].memory)
    assert not rows["RTX-3070"]["fits"]
    assert rows["B200"]["fits"]
    alone = predict("--json", "--gpu", "T4", file)
    assert json.loads(alone.stdout)["fits"] == rows["T4"]["fits"]


def test_tables_of_several_gpus_and_of_two_scripts(script):
    file = script(ADAM)
    process = predict("--gpus", "1,2", "--json", file)
    one, two = json.loads(process.stdout)["rows"]
    assert (one["gpus"], two["gpus"]) == (1, 2)
    assert one["reserved_gb"] == two["reserved_gb"]  # nothing is shared
    other = file.with_name("other.py")
    other.write_text(file.read_text().replace("Adam(", "SGD("))
    told = predict("--compare", other, file).stdout
    (line,) = [line for line in told.splitlines() if line.startswith("    optimizer")]
    assert line.split() == ["optimizer", "0.02", "0.00"]
    sets = ["--", "--", "--width", "512"]
    file.write_text(file.read_text().replace("256", "int(sys.argv[-1] if sys.argv[1:] else 256)"))
    file.write_text("import sys\n" + file.read_text())
    told = predict(file, "--compare", *sets).stdout
    assert told.splitlines()[1].split() == ["as", "it", "is", "--width", "512"]
    rows = json.loads(predict(file, "--json", "--compare", *sets).stdout)["rows"]
    assert [row["arguments"] for row in rows] == [[], ["--width", "512"]]
    (grown,) = [line for line in told.splitlines() if "line 12: add.Tensor in * (Block)" in line]
    inputs = 3 * 4096 * 256 * 4 / 1e9  # of the blocks; the first one's is the batch
    assert [float(word) for word in grown.split()[:2]] == [
        pytest.approx(inputs, abs=0.01),
        pytest.approx(2 * inputs, abs=0.01),
    ]
    for words, problem in (
        ((file, "--compare"), "compare with what?"),
        ((file, *sets), "several sets of the script's own options are for --compare"),
    ):
        assert problem in predict(*words).stderr
    process = predict("--gpus", "1,two", file)
    assert process.returncode == 2
    assert "'1,two' is no number of GPUs" in process.stderr
    process = predict("--gpus", "1,2", "--what-if", file)
    assert "one question at a time" in process.stderr
