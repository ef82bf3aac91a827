"""Data that is here or not, and the batches that are made of it."""

import pytest

from tests.warm import predict, predicted

BATCHES = """
from torch.utils.data import DataLoader, Dataset
class Texts(Dataset):
    def __len__(self):
        return 64
    def __getitem__(self, place):
        return torch.zeros({length}, 1024)
def pad(batch):
    return nn.utils.rnn.pad_sequence(batch, batch_first=True)
layer = nn.Linear(1024, 1024).cuda()
optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
for batch in DataLoader(Texts(), batch_size=4, collate_fn=pad):
    F.gelu(layer(batch.cuda())).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
"""


def test_of_batches_that_differ_the_largest_counts(script):
    growing = script(BATCHES.format(length="100 + place"))
    row = predicted(growing)
    (note,) = row["notes"]
    assert "the largest of the first 16 counts" in note
    assert row["reserved_gb"] == predicted(script(BATCHES.format(length="163")))["reserved_gb"]
    first = predicted(script(BATCHES.format(length="100 + place")), "--batches", "2")
    assert first["allocated_gb"] < row["allocated_gb"]


def test_a_data_set_may_make_its_samples_on_the_gpu(script):
    """The batch before is there while four samples are made, and put into one tensor."""
    text = """
from torch.utils.data import DataLoader, Dataset
class Rows(Dataset):
    def __len__(self):
        return 64
    def __getitem__(self, place):
        return torch.zeros(250_000, device="cuda")
weight = torch.zeros(1, device="cuda", requires_grad=True)
optimizer = torch.optim.SGD([weight], lr=0.1)
for batch in DataLoader(Rows(), batch_size=4):
    assert batch.device.type == "cuda"
    (batch.mean() * weight).backward()
    optimizer.step()
    optimizer.zero_grad()
assert torch.cuda.memory_allocated() < 5e6
"""
    assert predicted(script(text))["allocated_gb"] == pytest.approx(12 / 1e3, rel=0.01)


def test_batches_may_be_taken_long_before_they_are_used(script):
    """As transformers' Trainer takes those of an accumulation."""
    row = predicted(
        script("""
from torch.utils.data import DataLoader, TensorDataset
model = nn.Linear(1024, 1024).cuda()
optimizer = torch.optim.Adam(model.parameters())
batches = iter(DataLoader(TensorDataset(torch.zeros(4096, 1024)), batch_size=4))
while some := [batch for _, batch in zip(range(32), batches)]:
    for (batch,) in some:
        model(batch.cuda()).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
""")
    )
    assert row["breakdown_gb"]["optimizer"] == pytest.approx(2 * 4 * 1025 * 1024 / 1e9, rel=0.01)


def test_the_batch_size_may_be_an_option_of_the_scripts(script):
    text = """
import argparse
from torch.utils.data import DataLoader, TensorDataset
parser = argparse.ArgumentParser()
parser.add_argument("--samples", type=int, default=8)
samples = parser.parse_args().samples
model = nn.Sequential(*[nn.Linear(1024, 1024) for _ in range(8)]).cuda()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for (batch,) in DataLoader(TensorDataset(torch.zeros(9000, 1024)), batch_size=samples // 2 * 2):
    model(batch.cuda()).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
"""
    file = script(text)
    row = predicted(file, "--batch-option", "--samples", "--batch-size", "512")
    assert row["reserved_gb"] == predicted(file, "--", "--samples", "512")["reserved_gb"]
    assert row["notes"] == []
    odd = predicted(file, "--batch-option", "--samples", "--batch-size", "511")
    assert "--samples 511 makes batches of 510" in odd["notes"]
    process = predict(file, "--batch-option", "--samples")
    assert process.returncode == 2
    assert "name one" in process.stderr


def test_questions_and_options_that_are_none_are_told(script):
    process = predict(script("name = input('which? ')\n"))
    assert process.returncode == 2
    assert "line 4: it asks for input" in process.stderr
    file = script(BATCHES.format(length="9"))
    process = predict(file, "--batch-option", "--samples", "--batch-size", "8")
    assert process.returncode == 2
    assert "--samples 8 leaves its batches at 4" in process.stderr
    process = predict(file, "--example", "tokens:0")
    assert process.returncode == 2
    assert process.stderr.count("\n") == 1


def test_texts_that_are_here_are_read_and_the_tokenizer_is_told(script, tmp_path):
    (tmp_path / "texts.txt").write_text("one two three\n" * 64)
    row = predicted(
        script("""
from transformers import AutoTokenizer
texts = open("texts.txt").read().splitlines()
tokenizer = AutoTokenizer.from_pretrained("bert-base-uncased")
words = tokenizer(texts, return_tensors="pt")["input_ids"].cuda()
assert words.shape == (64, 5)  # and two special ones
model = nn.Embedding(30522, 64).cuda()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(3):
    model(words).sum().backward()
    optimizer.step()
""")
    )
    assert any("a tokenizer that is not here" in note for note in row["notes"])


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
    assert ["cuDNN" in note for note in row["notes"]] == [True]  # and nothing in the data's place


def test_faces_folders_of_timms_and_lightnings_text_need_not_be_here(script):
    file = script("""
from lightning.pytorch.demos import WikiText2
from timm.data import create_dataset
from torchvision import datasets, transforms
from torch.utils.data import DataLoader
text = WikiText2()
assert (text.vocab_size, len(text)) == (33_278, 2_088_628 // 35 - 1)
faces = datasets.CelebA("nowhere", download=True, transform=transforms.ToTensor())
images = create_dataset("", root="nowhere/train", is_training=True)
images.transform = transforms.ToTensor()
pairs = [next(iter(DataLoader(data, batch_size=4))) for data in (text, faces, images)]
shapes = [tuple(tensor.shape) for pair in pairs for tensor in pair]
assert shapes == [(4, 35), (4, 35), (4, 3, 218, 178), (4, 40), (4, 3, 80, 100), (4,)], shapes
model = nn.Embedding(text.vocab_size, 64).cuda()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for words, _ in DataLoader(text, batch_size=4):
    model(words.cuda()).sum().backward()
    optimizer.step()
""")
    notes = predicted(file, "--example", "images:3x80x100", "--classes", "7")["notes"]
    for told in (
        "WikiText-2: 2,088,628",
        "CelebA in nowhere: 3x218x178",
        "nowhere/train: 3x80x100",
    ):
        assert any(told in note for note in notes)
    assert "there are no images in nowhere/train" in predict(file).stderr
    assert (
        "what they say of faces"
        in predict(
            script("""
from torchvision import datasets
datasets.CelebA("nowhere", target_type="identity")
""")
        ).stderr
    )


def test_an_encoding_of_tiktokens_that_is_not_here_makes_a_token_of_each_byte(script):
    pytest.importorskip("tiktoken")
    row = predicted(
        script("""
import tiktoken
for name, size in {"gpt2": 50_257, "cl100k_base": 100_277, "o200k_base": 200_019}.items():
    encoding = tiktoken.get_encoding(name)
    assert encoding.n_vocab == size
words = encoding.encode_ordinary("größer")
assert len(words) == 8 and encoding.decode(words) == "größer"
model = nn.Embedding(encoding.n_vocab, 64).cuda()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(3):
    model(torch.tensor(words).cuda()).sum().backward()
    optimizer.step()
""")
    )
    assert any("a token of each byte" in note for note in row["notes"])


def test_known_data_sets_have_the_columns_of_their_cards():
    from types import SimpleNamespace

    from vramcast.libraries.datasets import _rows
    from vramcast.options import Example

    options = SimpleNamespace(example=Example(words=8), classes=10, columns=())
    context = SimpleNamespace(options=options, notes=[])
    pairs = _rows("sentence-transformers/stsb", None, context)
    assert sorted(pairs.column_names) == ["score", "sentence1", "sentence2"]
    assert pairs[3]["score"] == 0.5
    assert pairs[3]["sentence1"].split() == ["word"] * 8
    assert set(_rows("abisee/cnn_dailymail", "3.0.0", context).column_names) == {
        "article", "highlights", "id",
    }  # fmt: skip
    assert _rows("sentence-transformers/all-nli", "pair-class", context)[2]["label"] == 2


def test_an_example_may_have_images_sound_and_texts(script):
    """Columns are what their names say; sound is as long at each rate."""
    row = predicted(
        script("""
from datasets import Audio, load_dataset
rows = load_dataset("captions", split="train")
rows = rows.cast_column("speech", Audio(sampling_rate=4000))
sample = rows[3]
assert sample["input_image"].size == (48, 64) and sample["prompt"].split() == ["word"] * 5
assert sample["label"] == 3
assert len(sample["speech"]["array"]) == 8000 and sample["speech"]["sampling_rate"] == 4000
model = nn.Linear(8000, 1).cuda()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(2):
    model(torch.tensor(sample["speech"]["array"]).cuda()).sum().backward()
    optimizer.step()
"""),
        "--example", "images:3x64x48,tokens:5,audio:16000x2",
        "--columns", "input_image,prompt,speech,label",
    )  # fmt: skip
    (note,) = row["notes"]
    assert "images:3x64x48,tokens:5,audio:16000x2, 512 rows" in note


def test_a_loader_may_go_on_over_all_epochs(script):
    """As YOLOv5's and timm's do, so that their workers live on."""
    row = predicted(
        script("""
from torch.utils.data import DataLoader, TensorDataset
class Repeated:
    def __init__(self, sampler):
        self.sampler = sampler
    def __iter__(self):
        while True:
            yield from iter(self.sampler)
class Endless(DataLoader):
    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        object.__setattr__(self, "batch_sampler", Repeated(self.batch_sampler))
        self.iterator = super().__iter__()
    def __len__(self):
        return len(self.batch_sampler.sampler)
    def __iter__(self):
        for _ in range(len(self)):
            yield next(self.iterator)
layer = nn.Linear(1024, 1024).cuda()
optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
loader, batches = Endless(TensorDataset(torch.zeros(640, 1024)), 8), []
few = Endless(TensorDataset(torch.zeros(16, 1024)), 8)
for epoch in range(3):
    batches.append(0)
    with torch.no_grad():
        seen = [layer(batch.cuda()) for (batch,) in few]
    assert len(seen) > 0, epoch
    for (batch,) in loader:
        layer(batch.cuda()).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        batches[-1] += 1
assert 2 <= batches[0] < 80 and min(batches) > 0, batches
""")
    )
    assert row["notes"] == []


def test_a_histogram_of_zeros_counts_one_for_all():
    """The result is NumPy's own, of one number in the place of a million."""
    from types import SimpleNamespace

    import numpy as np

    from vramcast.libraries.numpy import _numpy

    sizes = []

    def histogram(a, *args, **options):
        sizes.append(a.size)
        return np.histogram(a, *args, **options)

    module = SimpleNamespace(histogram=histogram, ndarray=np.ndarray)
    _numpy(module)
    zeros, places = np.zeros((1000, 1000), np.float32), [-1.0, 0.0, 0.5]
    for bins in (64, places):
        for mine, real in zip(module.histogram(zeros, bins), np.histogram(zeros, bins)):
            assert mine.tolist() == real.tolist()
    assert sizes == [1, 1]
    zeros[3, 4] = 1
    assert module.histogram(zeros, 2)[0].tolist() == [999_999, 1]


def test_wandb_is_off(script):
    pytest.importorskip("wandb")
    row = predicted(
        script("""
import wandb
run = wandb.init(project="a", mode="online")
model = nn.Embedding(1000, 64).cuda()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(3):
    loss = model(torch.zeros(8, dtype=torch.long, device="cuda")).sum()
    loss.backward()
    optimizer.step()
    wandb.log({"loss": loss.item()})
    run.log({"loss": loss.item(), "picture": wandb.Histogram([1, 2])})
run.finish()
""")
    )
    assert row["notes"] == []


@pytest.mark.parametrize("place", ["cpu", "cuda"])
def test_batches_made_at_once_are_those_made_of_rows(script, place):
    """A class of the script's own gives its rows one by one; all figures are the same."""
    text = """
from torch.utils.data import DataLoader, Subset, TensorDataset, random_split
class Own(TensorDataset): pass
x, y = torch.randn(1000, 250, device="{place}"), torch.randint(77, (1000,), device="{place}")
bits = torch.ones(1000, 3, dtype=torch.bool, device="{place}")
data, rest = random_split({kind}(x, y, bits), [900, 100])
layer = nn.Linear(250, 77).cuda()
optimizer = torch.optim.Adam(layer.parameters())
for batch in DataLoader(data, 250, shuffle=True, pin_memory={place!r} == "cpu"):
    images, labels, bits = [one.cuda() for one in batch]
    kept = torch.zeros(labels.max().item() + 1, 1000, device="cuda")
    F.cross_entropy(layer(images), labels).backward()
    optimizer.step()
    optimizer.zero_grad()
order = torch.utils.data.BatchSampler([3, 2, 5, 1, -1], 2, False)
for images, labels, bits in DataLoader(Subset(rest, range(50)), batch_sampler=order):
    layer(images.cuda())
    assert (images.shape, labels.dtype, bits.dtype) == ((2, 250), torch.long, torch.bool)
"""
    rows = []
    for kind in ("TensorDataset", "Own"):
        row = predicted(script(text.format(kind=kind, place=place)))
        rows.append({key: value for key, value in row.items() if key not in ("seconds", "script")})
    assert rows[0] == rows[1]
    assert "taken to be 77," in rows[0]["notes"][0]
