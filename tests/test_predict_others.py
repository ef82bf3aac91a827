"""Scripts of the kinds that people have: predicted, and held against formulas."""

import json
import re

import pytest

from ladder.rungs import ROOT, read_ladder
from tests.warm import predict, predicted
from vramcast import NotPredicted
from vramcast import predict as from_python
from vramcast.command.advice import TECHNIQUES

HEAD = "import torch\nimport torch.nn.functional as F\nfrom torch import nn\n"
DEEP = "model = nn.Sequential(*[nn.Linear(1024, 1024) for _ in range(8)]).cuda()\n"
WEIGHTS = 8 * (1024 * 1024 + 1024) * 4 / 1e9  # GB in float32
LOOP = """
from torch.utils.data import DataLoader, TensorDataset
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for (images,) in DataLoader(TensorDataset(torch.zeros(1000, 1024)), batch_size=32):
    model(images.cuda()).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
"""
RANK = """
import os
import torch.distributed as dist
dist.init_process_group("nccl")
rank = int(os.environ["LOCAL_RANK"])
assert (dist.get_rank(), dist.get_world_size()) == (int(os.environ["RANK"]), 4)
torch.cuda.set_device(rank)
"""


@pytest.fixture
def script(tmp_path):
    """A function that writes a script and returns its path."""

    def write(text: str):
        (tmp_path / "train.py").write_text(HEAD + text)
        return tmp_path / "train.py"

    return write


# ----------------------------------------------------------------------------- options, own folder


OPTIONS = """
import argparse
import json
import re
import helper
parser = argparse.ArgumentParser()
parser.add_argument("--width", type=int, required=True)
width = parser.parse_args().width + json.load(open("config.json"))["more"] + helper.NONE
model = nn.Linear(width, width, bias=False).cuda()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(4):
    model(torch.ones(8, width, device="cuda")).sum().backward()
    optimizer.step()
"""


def test_what_stands_after_the_dashes_is_the_scripts(script, tmp_path):
    """Also its siblings, and the configuration beside it."""
    file = script(OPTIONS)
    (tmp_path / "helper.py").write_text("NONE = 0\n")
    (tmp_path / "config.json").write_text('{"more": 96}')
    row = predicted(file, "--gpu", "24", "--", "--width", "4000")
    assert row["breakdown_gb"]["parameters"] == pytest.approx(4096**2 * 4 / 1e9)
    for arguments, told in ((["--wdth", "3"], "required: --width"), ([], "required: --width")):
        process = predict(file, "--", *arguments)
        assert process.returncode == 2
        assert told in process.stderr


def test_options_of_two_scripts_are_refused(script):
    process = predict(script(LOOP), "03_bfloat16.py", "--", "--x")
    assert process.returncode == 2
    assert "one script's" in process.stderr


# --------------------------------------------------------------------------------- several GPUs


@pytest.mark.parametrize("views", [False, True])
def test_distributed_data_parallel_keeps_buckets(script, views):
    """As large as all gradients; with views, they are the gradients. A ring moves them twice."""
    wrapped = f"""
from torch.nn.parallel import DistributedDataParallel as DDP
model = DDP(model, device_ids=[rank], gradient_as_bucket_view={views})
"""
    file = script(
        RANK + DEEP + wrapped + LOOP.replace("zero_grad()", "zero_grad(set_to_none=True)")
    )
    row = predicted(file)
    kept = row["breakdown_gb"]["gradients"]
    assert kept == pytest.approx(WEIGHTS * (1 if views else 2), rel=0.13)  # the last is on its way
    moved = row["cost"]["between_gpus_gb_per_step"]
    assert moved == pytest.approx(2 * 3 / 4 * WEIGHTS, rel=0.01)


def test_accumulation_without_sync_moves_nothing_meanwhile(script):
    loop = """
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset
model = DDP(model)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
data = TensorDataset(torch.zeros(1000, 1024))
sampler = DistributedSampler(data)
for epoch in range(2):
    sampler.set_epoch(epoch)
    for (images,) in DataLoader(data, batch_size=8, sampler=sampler):
        with model.no_sync():
            model(images.cuda()).sum().backward()
        model(images.cuda()).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
"""
    cost = predicted(script(RANK + DEEP + loop))["cost"]
    assert cost["between_gpus_gb_per_step"] == pytest.approx(2 * 3 / 4 * WEIGHTS, rel=0.01)


@pytest.mark.parametrize("kind", ["FSDP1", "FSDP2"])
def test_sharding_in_plain_pytorch(script, kind):
    wrapped = {
        "FSDP1": "from torch.distributed.fsdp import FullyShardedDataParallel as FSDP\n"
        "model = FSDP(nn.Sequential(*map(FSDP, model)), device_id=rank)\n",
        "FSDP2": "from torch.distributed.fsdp import fully_shard\n"
        "for layer in model: fully_shard(layer)\nfully_shard(model)\n",
    }[kind]
    row = predicted(script(RANK + DEEP + wrapped + LOOP))
    whole = predicted(script(DEEP + LOOP))
    assert row["breakdown_gb"]["gradients"] < 0.6 * whole["breakdown_gb"]["gradients"]


# -------------------------------------------------------------------------- numbers not known


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


# ----------------------------------------------------------------------- compiled, or not trained


def test_what_is_compiled_is_predicted_as_it_is(script):
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
    own, plain = predicted(script(DEEP + compiled)), predicted(script(DEEP + LOOP))
    assert own["reserved_gb"] == plain["reserved_gb"]
    assert any("predicted as if uncompiled" in note for note in own["notes"])


def test_compiled_models_that_others_measured_are_near():
    rows = json.loads((ROOT / "results/others.json").read_text())
    compiled = [row for row in rows if "compiled" in row["conditions"]]
    assert len(compiled) == 3
    for row in compiled:
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


# ------------------------------------------------------------------------ advice, and in programs


def test_what_helps_is_named_with_its_page(script):
    """All weights and averages, or all activations."""
    file = script(DEEP + LOOP.replace("SGD(", "Adam("))
    process = predict(file, "--gpu", "0.4 GB")
    assert process.returncode == 1
    assert "optimizer are 3" in process.stdout
    assert "8-bit averages" in process.stdout
    assert "later script" not in process.stdout  # it is none of the ladder
    pages = re.findall(r"docs/ladder/\S+\.md", process.stdout)
    assert len(pages) >= 3
    assert all((ROOT / page).exists() for page in pages)
    assert {page for _, techniques in TECHNIQUES.values() for _, page in techniques} <= {
        rung.script.rpartition("/")[2].removesuffix(".py") for rung in read_ladder()
    }


def test_the_interface_for_notebooks(script):
    file = script(OPTIONS.replace("import helper\n", "").replace(" + helper.NONE", ""))
    (file.parent / "config.json").write_text('{"more": 0}')
    prediction = from_python(file, gpu=24, arguments=["--width", 512])
    assert prediction.breakdown_gb["parameters"] == pytest.approx(512**2 * 4 / 1e9)
    assert prediction.fits
    assert str(prediction).startswith(f"{file} fits 24 GB: it needs")
    with pytest.raises(NotPredicted, match="required: --width"):
        from_python(file)
    with pytest.raises(NotPredicted, match="there is no script"):
        from_python("nowhere.py")


# --------------------------------------------------------------------------- what is written


WRITES = """
import json
import os
import socket
from pathlib import Path

os.makedirs("runs/first", exist_ok=True)
Path("out").mkdir(exist_ok=True)
log = open("log.txt", "a")
for epoch in range(3):
    model(torch.randn(8, 1024, device="cuda")).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    log.write(f"{epoch}\\n")
    json.dump({"epoch": epoch}, open("out/last.json", "w"))
    checkpoint = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch}
    torch.save(checkpoint, "runs/first/checkpoint.pt")
log.close()
assert open("log.txt").read() == "before\\n0\\n1\\n2\\n"
assert json.loads(Path("out/last.json").read_text()) == {"epoch": 2}
assert os.listdir("runs/first") == ["checkpoint.pt"] and os.path.exists("runs")
assert "out" in os.listdir(".") and "log.txt" in os.listdir(".")
os.replace("out/last.json", "out/best.json")
assert [path.name for path in Path("out").glob("*.json")] == ["best.json"]
kept = torch.load("runs/first/checkpoint.pt", map_location="cpu")
model.load_state_dict(kept["model"])
optimizer.load_state_dict(kept["optimizer"])
assert kept["epoch"] == 2
try:
    Path("out").mkdir()
    raise RuntimeError("made twice")
except FileExistsError:
    pass
try:
    open("no/such/folder.txt", "w")
    raise RuntimeError("written where no folder is")
except FileNotFoundError:
    pass
try:
    socket.create_connection(("localhost", 1))
except OSError as error:
    print(error)
"""


def test_what_is_written_goes_nowhere_and_can_be_read_back(script):
    optimizer = "optimizer = torch.optim.Adam(model.parameters())\n"
    file = script(DEEP + optimizer + WRITES)
    (file.parent / "log.txt").write_text("before\n")
    row = predicted(file)
    assert row["breakdown_gb"]["optimizer"] == pytest.approx(2 * WEIGHTS, rel=0.01)
    assert sorted(path.name for path in file.parent.iterdir()) == ["log.txt", "train.py"]
    assert (file.parent / "log.txt").read_text() == "before\n"


# ------------------------------------------------------------------------- data that is not here


FOLDER = """
from torchvision import datasets, models, transforms
crop = transforms.Compose([transforms.RandomResizedCrop({side}), transforms.ToTensor()])
images = datasets.ImageFolder("{folder}", crop)
loader = torch.utils.data.DataLoader(images, batch_size=4, shuffle=True, num_workers=4)
model = models.resnet18(num_classes=len(images.classes)).cuda()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for images, labels in loader:
    loss = F.cross_entropy(model(images.cuda()), labels.cuda())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


def test_an_example_stands_in_for_a_folder_of_images(script):
    file = script(FOLDER.format(side=64, folder="/no/such/train"))
    process = predict(file)
    assert process.returncode == 2
    assert "line 7: there is no ImageFolder in /no/such/train. " in process.stderr
    assert "--example images:3x224x224 --classes 1000" in process.stderr
    row = predicted(file, "--example", "images:3x80x100", "--classes", "7")
    head = 512 * 7 + 7
    weights = 11_176_512 + head + 2 * 4800 + 20  # and batch norm's averages and counts
    assert row["breakdown_gb"]["parameters"] == pytest.approx(weights * 4 / 1e9, rel=0.001)
    assert any("in the place of ImageFolder in /no/such/train" in note for note in row["notes"])
    for wrong in ("images:3x0x4", "images:2x4x4", "pictures", "images:3x4"):
        process = predict(file, "--example", wrong)
        assert process.returncode == 2
        assert "is no example" in process.stderr


def test_a_folder_of_images_that_is_here_is_read(script, tmp_path):
    from PIL import Image

    for name in ("cat", "dog", "owl"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (40, 30)).save(tmp_path / "images" / name / f"{number}.png")
    row = predicted(script(FOLDER.format(side=32, folder=tmp_path / "images")))
    assert row["breakdown_gb"]["parameters"] < 0.0449  # three classes
    assert row["notes"] == ["cuDNN's workspaces for its convolutions are not counted"]


# --------------------------------------------------------------------------------- frameworks


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


def test_what_fails_once_the_peak_is_at_rest_is_a_note(script):
    end = "open('result.txt', 'w').write(str(1 / 0))\n"
    row = predicted(script(DEEP + LOOP + end))
    (note,) = row["notes"]
    assert "the peak was at rest when it ended: line 12: ZeroDivisionError" in note
    (note,) = predicted(script(DEEP + LOOP + "import os\nos.remove(__file__)\n"))["notes"]
    assert "line 13: it changes files (os.remove: " in note
    process = predict(script(DEEP + end + LOOP))
    assert process.returncode == 2
    assert "line 5: ZeroDivisionError" in process.stderr
