"""Trainings of the kinds that people write: predicted, and held against formulas."""

import importlib
import json
import statistics

import pytest

from ladder.rungs import ROOT
from tests.scripts import DEEP, LOOP, TIGHT, WEIGHTS
from tests.warm import predicted

PLAIN = """
import contextlib, sys, torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint
from torchvision.models import VisionTransformer

kind = {kind!r}
model = VisionTransformer(
    image_size=64, patch_size=8, num_layers=4, num_heads=6, hidden_dim=384, mlp_dim=1536
).to("cuda")
if kind == "hook":
    each = {{p: torch.optim.Adam([p]) for p in model.parameters()}}

    def step(p):
        each[p].step()
        each[p].zero_grad()

    for p in model.parameters():
        p.register_post_accumulate_grad_hook(step)
options = {{"foreach": False}} if kind == "loop" else {{"fused": True}} if kind == "fused" else {{}}
optimizer = torch.optim.Adam(model.parameters(), **options)
scaler = torch.amp.GradScaler("cuda", enabled=kind == "scaler")
if kind == "checkpoint":
    for block in model.encoder.layers:
        forward = block.forward
        block.forward = lambda x, f=forward: checkpoint(f, x, use_reentrant=False)
saved = torch.autograd.graph.save_on_cpu if kind == "offload" else contextlib.nullcontext
while True:
    images = torch.randn(8, 3, 64, 64, device="cuda")
    labels = torch.zeros(8, dtype=torch.long, device="cuda")
    if kind == "before":
        optimizer.zero_grad()
    with saved(), torch.autocast("cuda", torch.float16, enabled=kind == "scaler"):
        loss = F.cross_entropy(model(images), labels)
    scaler.scale(loss).backward()
    if kind != "hook":
        scaler.step(optimizer)
        scaler.update()
    if kind != "before":
        optimizer.zero_grad()
    print(f"{{loss:.3f}}", loss.item())
"""


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> dict[str, dict]:
    """A plain script of a ViT-S, with one thing changed each time."""
    folder = tmp_path_factory.mktemp("plain")
    rows = {}
    kinds = ("", "loop", "fused", "hook", "scaler", "checkpoint", "offload", "before")
    for kind in kinds:
        script = folder / f"plain{kind}.py"
        script.write_text(PLAIN.format(kind=kind))
        rows[kind] = predicted(script, **TIGHT, PYTHONMALLOC="debug", PYTHONFAULTHANDLER="1")
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"plain{k}.py" for k in kinds)
    return rows


def test_scripts_that_are_not_ours(plain):
    """What each technique is known to do to a step of Adam, in copies of the parameters."""
    parameters = plain[""]["breakdown_gb"]["parameters"]
    workspaces = 2 * 8_519_680 / 1e9
    copies = {kind: (row["allocated_gb"] - workspaces) / parameters for kind, row in plain.items()}
    # parameters, gradients, two averages, and the list of roots in the step
    assert copies["checkpoint"] == pytest.approx(5, abs=0.02)
    assert plain["checkpoint"]["peak_phase"] == "optimizer step"
    assert copies[""] >= 5
    assert copies["hook"] < copies[""]
    largest = 384 * 1536 * 4 / 1e9  # one gradient at a time
    assert plain["hook"]["breakdown_gb"]["gradients"] < 1.1 * largest
    assert (
        plain["scaler"]["breakdown_gb"]["activations"]
        < 1.2 * (plain[""]["breakdown_gb"]["activations"])
    )
    assert plain["offload"]["host_gb"] > plain[""]["host_gb"] + parameters / 2
    for kind in ("loop", "fused"):  # no list of roots, which is not at the peak here
        assert copies[kind] == pytest.approx(copies[""], rel=0.01)
    assert plain["before"]["allocated_gb"] == pytest.approx(plain[""]["allocated_gb"], rel=0.05)


EPOCHS = """
import torch, torchvision
from torchvision.transforms import ToTensor

data = torchvision.datasets.MNIST("data", download=True, transform=ToTensor())
loader = torch.utils.data.DataLoader(data, batch_size=32, shuffle=True, num_workers=2)
model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10)).cuda()
optimizer = torch.optim.AdamW(model.parameters())
for epoch in range(200):
    correct = 0
    for images, labels in loader:
        logits = model(images.cuda())
        correct += (logits.argmax(1) == labels.cuda()).sum().item()
        torch.nn.functional.cross_entropy(logits, labels.cuda()).backward()
        optimizer.step()
        optimizer.zero_grad()
torch.save(model.state_dict(), "model.pt")
"""


def test_many_epochs_leave_the_heap_as_it_should_be(tmp_path):
    script = tmp_path / "epochs.py"
    script.write_text(EPOCHS)
    row = predicted(script, PYTHONMALLOC="debug", PYTHONFAULTHANDLER="1")
    assert 0 < row["allocated_gb"] < 0.1
    assert list(tmp_path.iterdir()) == [script]


def test_what_may_find_all_elements_is_taken_to(script):
    """A mask keeps every row at most; `nonzero` makes two long numbers an element."""
    loop = """
model = nn.Linear(1024, 1024).cuda()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(4):
    x = torch.randn(4096, 1024, device="cuda")
    keep = x[:, 0] > 0
    rows, columns = torch.where(x > 0)
    kept = x[keep]
    assert kept.shape == (4096, 1024) and rows.shape == (4096 * 1024,)
    values, places, counts = torch.unique(keep, return_inverse=True, return_counts=True)
    assert len(values) == len(counts) == 4096 and places.shape == (4096,)
    model(kept).sum().backward()
    optimizer.step()
"""
    row = predicted(script(loop))
    for line, name in ((10, "nonzero"), (11, "a mask"), (13, "unique")):
        told = f"line {line}: {name} is taken to find all elements, the most that it can"
        assert told in row["notes"]


def test_metrics_of_predicted_classes(script):
    loop = """
import copy
from sklearn.metrics import accuracy_score, f1_score
from torchmetrics import AUROC, Accuracy, ConfusionMatrix, F1Score, MetricCollection
from torchmetrics.functional import accuracy
many = {"task": "multiclass", "num_classes": 10}
metric = Accuracy(**many).cuda()
metrics = MetricCollection([F1Score(**many), ConfusionMatrix(**many)]).cuda()
auroc, copied = AUROC(**many).cuda(), copy.deepcopy(metric)
model = nn.Linear(64, 10).cuda()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
best, found, right = 0.0, [], []
for _ in range(4):
    x, y = torch.randn(32, 64, device="cuda"), torch.randint(10, (32,), device="cuda")
    logits = model(x)
    loss = F.cross_entropy(logits, y)
    assert torch.isfinite(loss) and torch.isfinite(logits).all() and not torch.isnan(loss)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    classes = logits.argmax(1)
    for one in (metric, metrics, copied):
        one.update(classes, y)
    auroc.update(logits.softmax(1), y)
    accuracy(classes, y, **many)
    found += classes.cpu().numpy().tolist()
    right.extend(y.cpu().numpy())
    print(f"{loss:.3f} {norm:.2f}", round(loss.item(), 3))
if accuracy_score(right, found) > best and f1_score(right, found, average="macro"):
    best = metric.compute().item()
print(metrics.compute(), auroc.compute())
"""
    row = predicted(script(loop))
    assert row["breakdown_gb"]["parameters"] > 0
    assert not [note for note in row["notes"] if "no optimizer" in note]


def test_what_is_compiled_is_predicted_as_it_is_if_asked_for(script):
    compiled = """
compiled = torch.compile(model, mode="max-autotune", fullgraph=True)

@torch.compile(dynamic=False)
def loss_of(images):
    return compiled(images).sum()

optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
step = torch.compile(optimizer.step)
for _ in range(4):
    loss_of(torch.randn(32, 1024, device="cuda")).backward()
    step()
    optimizer.zero_grad()
"""
    own, plain = predicted(script(DEEP + compiled), "--eager"), predicted(script(DEEP + LOOP))
    assert own["reserved_gb"] == plain["reserved_gb"]
    assert any("predicted as if uncompiled" in note for note in own["notes"])


def test_compiled_trainings_that_others_measured_are_near():
    rows = json.loads((ROOT / "results/others.json").read_text())
    compiled = [row for row in rows if row.get("like") == "compiled"]
    assert len({row["project"] for row in compiled}) >= 3
    errors = [abs(row["predicted_gb"] / row["measured_gb"] - 1) for row in compiled]
    assert statistics.median(errors) < 0.03
    whole = [row for row in compiled if "compiled" in row["conditions"]]  # all of a table's
    assert len(whole) >= 3
    for row in whole:
        assert abs(row["predicted_gb"] / row["measured_gb"] - 1) < 0.03


def test_inference_alone(script):
    """Weights, and of the layers' results two at a time."""
    row = predicted(
        script(
            DEEP
            + "with torch.no_grad():\n    for _ in range(5): model(torch.ones(8192, 1024).cuda())\n"
        )
    )
    assert any("inference" in note for note in row["notes"])
    result = 8192 * 1024 * 4 / 1e9
    assert row["allocated_gb"] == pytest.approx(WEIGHTS + 3 * result, rel=0.1)


TRAINER = """
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

class Texts(torch.utils.data.Dataset):
    def __len__(self):
        return 256

    def __getitem__(self, place):
        return {"input_ids": torch.ones(128).long(), "labels": torch.tensor(0)}

size = {"hidden_size": 256, "num_hidden_layers": 4, "intermediate_size": 512}
model = BertForSequenceClassification(BertConfig(num_attention_heads=4, **size))
arguments = TrainingArguments(
    "out", per_device_train_batch_size=8, bf16=True, gradient_accumulation_steps=2,
    eval_strategy="epoch", logging_steps=2, report_to="none", num_train_epochs=1,
)
Trainer(model, arguments, train_dataset=Texts(), eval_dataset=Texts()).train()
"""
ACCELERATE = """
from accelerate import Accelerator
from torch.utils.data import DataLoader, TensorDataset
accelerator = Accelerator(mixed_precision="bf16", gradient_accumulation_steps=2)
model = nn.Sequential(*[nn.Linear(1024, 1024) for _ in range(8)])
optimizer = torch.optim.AdamW(model.parameters())
loader = DataLoader(TensorDataset(torch.zeros(640, 1024)), batch_size=32)
model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
for (images,) in loader:
    with accelerator.accumulate(model):
        accelerator.backward(model(images).sum())
        accelerator.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
"""
LIGHTNING = """
import lightning
from torch.utils.data import DataLoader, TensorDataset

class Deep(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(*[nn.Linear(1024, 1024) for _ in range(8)])

    def training_step(self, batch, number):
        loss = self.layers(batch[0]).sum()
        self.log("loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch, number):
        self.log("val_loss", self.layers(batch[0]).sum())

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters())

loader = DataLoader(TensorDataset(torch.zeros(640, 1024)), batch_size=32)
trainer = lightning.Trainer(max_epochs=2, precision="bf16-mixed", gradient_clip_val=1.0)
trainer.fit(Deep(), loader, loader)
"""


@pytest.mark.parametrize(
    "text", [TRAINER, ACCELERATE, LIGHTNING], ids=["Trainer", "accelerate", "L"]
)
def test_frameworks_train_with_adams_two_averages(script, text):
    """In float32, beside parameters and gradients of the same size; they ask for hardware, too."""
    row = predicted(script(text))
    kinds = row["breakdown_gb"]
    if text is not TRAINER:
        assert kinds["parameters"] == pytest.approx(WEIGHTS, rel=0.01)
    assert kinds["optimizer"] == pytest.approx(2 * kinds["parameters"], rel=0.02)
    assert row["notes"] == []


def test_accelerates_ranks_agree_on_the_order_of_samples(script):
    text = ACCELERATE.replace("batch_size=32", "batch_size=32, shuffle=True")
    kinds = predicted(script(text), "--gpus", "2")["breakdown_gb"]
    assert kinds["optimizer"] == pytest.approx(2 * WEIGHTS, rel=0.02)


@pytest.mark.parametrize(
    ("optimizer", "on_gpu", "on_host"),
    [("AdamW8bit", 2 * (1 + 4 / 256), 0), ("PagedAdamW32bit", 0, 8), ("Lion8bit", 1 + 4 / 256, 0)],
)
def test_optimizers_of_bitsandbytes(script, optimizer, on_gpu, on_host):
    """Bytes a weight: averages of a byte with a scale for 256, or paged ones on the host."""
    if importlib.util.find_spec("bitsandbytes") is None:
        pytest.skip("bitsandbytes is not installed")
    row = predicted(
        script(f"""
import bitsandbytes as bnb
model = nn.Sequential(*[nn.Linear(1024, 1024, bias=False) for _ in range(8)]).cuda()
optimizer = bnb.optim.{optimizer}(model.parameters(), lr=1e-3)
for _ in range(4):
    model(torch.zeros(64, 1024, device="cuda")).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
""")
    )
    weights = 8 * 1024 * 1024 / 1e9
    assert row["breakdown_gb"].get("optimizer", 0) == pytest.approx(weights * on_gpu, rel=0.01)
    assert row["host_training_gb"] == pytest.approx(weights * on_host, abs=0.001)
    assert bool(row["notes"]) == bool(on_host)


KERNEL = """
import triton
import triton.language as tl

@triton.jit
def double(source, target, count, BLOCK: tl.constexpr):
    places = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(target + places, 2 * tl.load(source + places, places < count), places < count)

model = nn.Linear(1000, 1000, bias=False).cuda()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(4):
    model(torch.zeros(8, 1000, device="cuda")).sum().backward()
    doubled = [torch.empty_like(model.weight.grad) for _ in range(5)]
    for target in doubled:
        double[(1000,)](model.weight.grad, target, 1000000, BLOCK=1024)
    optimizer.step()
    del doubled
"""


def test_a_kernel_of_triton_needs_what_its_caller_allocates(script):
    row = predicted(script(KERNEL))
    assert row["allocated_gb"] > 7 * 1000 * 1000 * 4 / 1e9  # weight, gradient, five results
    without = KERNEL.replace("double[(1000,)](", "print(").replace(", BLOCK=1024", "")
    assert row["allocated_gb"] == predicted(script(without))["allocated_gb"]


def test_a_detection_models_weights_and_boxes(script):
    """Faster R-CNN; boxes are those that it trains on, 512 an image."""
    row = predicted(
        script("""
from torchvision.models.detection import fasterrcnn_resnet50_fpn
model = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None).cuda()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
seen = []
model.roi_heads.box_head.register_forward_pre_hook(lambda head, args: seen.append(len(args[0])))
target = {"boxes": torch.ones(3, 4).cuda(), "labels": torch.ones(3).long().cuda()}
for _ in range(3):
    sum(model([torch.zeros(3, 480, 640).cuda()] * 2, [target] * 2).values()).backward()
    optimizer.step()
    optimizer.zero_grad()
assert set(seen) == {2 * 512}
"""),
        **TIGHT,
    )
    parameters = 41_755_286  # as torchvision's documentation says
    assert row["breakdown_gb"]["parameters"] == pytest.approx(parameters * 4 / 1e9, rel=0.02)
    assert any("nonzero is taken to find all" in note for note in row["notes"])


def test_a_script_that_uses_no_gpu_is_told(script):
    row = predicted(
        script("""
model = nn.Linear(8, 8)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(30):
    model(torch.zeros(8, 8)).sum().backward()
    optimizer.step()
""")
    )
    assert any("nothing was put on a GPU" in note for note in row["notes"])


def test_inference_mode_takes_as_much_as_no_grad(script):
    """In it, PyTorch hands over operators that consist of others, with their temporaries.

    Attention's kernel, dropout that does nothing, the logarithms in the loss, a product with a
    tensor that is spread first, and what is where it is asked to be.
    """
    predicted(
        script("""
logits, classes = torch.zeros(1024, 4096, device="cuda"), torch.zeros(1024, device="cuda").long()
heads = torch.zeros(8, 8, 512, 64, device="cuda", dtype=torch.half)
def most(context):
    peaks = []
    with context():
        for make in (
            lambda: F.cross_entropy(logits, classes),
            lambda: F.scaled_dot_product_attention(heads, heads, heads),
            lambda: torch.einsum("bhid,bhjd->bhij", heads, heads),
            lambda: logits.half().softmax(-1, dtype=torch.float32),
            lambda: F.dropout(logits.cuda().to("cuda", torch.float32), 0.5),
        ):
            torch.cuda.reset_peak_memory_stats()
            make()
            peaks.append(torch.cuda.max_memory_allocated())
    return peaks
most(torch.no_grad)  # with the workspaces that stay
peaks = most(torch.no_grad)
assert peaks == most(torch.inference_mode), (peaks, most(torch.inference_mode))
""")
    )


def test_generation_ends_at_its_longest(script):
    row = predicted(
        script("""
from transformers import GPT2Config, GPT2LMHeadModel
model = GPT2LMHeadModel(GPT2Config(n_layer=2, n_embd=64, n_head=2, vocab_size=1000)).cuda()
words = torch.ones(3, 7, dtype=torch.long, device="cuda")
for _ in range(2):
    assert model.generate(words, max_new_tokens=9).shape == (3, 16)
""")
    )
    assert any("inference" in note for note in row["notes"])


def test_what_is_set_on_a_parameter_stays_when_it_moves(script):
    """And a module moves that holds what was computed of its parameters."""
    row = predicted(
        script("""
model = nn.Linear(256, 256)
model.weight.uses = 3
model.scale = nn.Parameter(torch.tensor(6.0))
model = nn.utils.weight_norm(model, "bias").cuda()
assert model.scale.is_cuda
assert model.weight.uses == 3 and model.weight.is_cuda
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(3):
    model(torch.zeros(8, 256, device="cuda")).sum().backward()
    optimizer.step()
""")
    )
    assert row["breakdown_gb"]["parameters"] == pytest.approx(257 * 256 * 4 / 1e9, rel=0.01)
