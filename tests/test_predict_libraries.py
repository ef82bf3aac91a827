"""Libraries that ask a hub, compiled code or numbers: predicted, and held against formulas."""

import importlib
import json

import pytest

from tests.warm import predict, predicted
from vramcast.libraries import model_sizes

HEAD = "import torch\nimport torch.nn.functional as F\nfrom torch import nn\n"
# Numbers of parameters that the models' cards, papers or libraries' documentation tell.
PARAMETERS = {
    "bert-base-uncased": 109_482_240,
    "bert-large-uncased": 335_141_888,
    "roberta-base": 124_645_632,
    "xlm-roberta-base": 278_043_648,
    "all-MiniLM-L6-v2": 22_713_216,
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-xl": 1_557_611_200,
    "pythia-70m": 70_426_624,
    "t5-small": 60_506_624,
    "Llama-2-7b-hf": 6_738_415_616,
    "TinyLlama-1.1B-Chat-v1.0": 1_100_048_384,
    "Llama-3.1-8B": 8_030_261_248,
    "Llama-3.2-1B": 1_235_814_400,
    "Mistral-7B-v0.1": 7_241_732_096,
    "Qwen2.5-0.5B": 494_032_768,
    "Qwen2.5-7B": 7_615_616_512,
}


@pytest.fixture
def script(tmp_path):
    """A function that writes a script and returns its path."""

    def write(text: str):
        (tmp_path / "train.py").write_text(HEAD + text)
        return tmp_path / "train.py"

    return write


# ---------------------------------------------------------------------------- models by their names


@pytest.mark.parametrize("name", PARAMETERS)
def test_known_models_have_the_published_number_of_parameters(name):
    import torch
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

    sizes = model_sizes.find(f"somebody/{name}", {})
    decoder = sizes["architectures"][0].endswith(("CausalLM", "LMHeadModel"))
    with torch.device("meta"):
        model = (AutoModelForCausalLM if decoder else AutoModel).from_config(
            AutoConfig.for_model(**sizes)
        )
    assert sum(weight.numel() for weight in model.parameters()) == PARAMETERS[name]


LANGUAGE = """
from datasets import load_dataset
from transformers import {cls}, AutoTokenizer
name = "{name}"
tokenizer = AutoTokenizer.from_pretrained(name)
if tokenizer.pad_token is None:
    tokenizer.pad_token = tokenizer.eos_token
rows = load_dataset("glue", "mrpc", split="train[:100]")
rows = rows.map(
    lambda row: tokenizer(row["sentence1"], truncation=True, max_length=32, padding="max_length")
)
rows.set_format("torch", ["input_ids", "attention_mask"])
assert len(tokenizer) == {tokens} and rows[0]["input_ids"].shape == (32,)
model = {cls}.from_pretrained(name, dtype=torch.float32).cuda()
optimizer = torch.optim.AdamW(model.parameters(), foreach=False)
for batch in torch.utils.data.DataLoader(rows, batch_size=4):
    model(**{{key: value.cuda() for key, value in batch.items()}})[0].sum().backward()
    optimizer.step()
    optimizer.zero_grad()
"""


@pytest.mark.parametrize("name", ["bert-base-uncased", "openai-community/gpt2"])
def test_a_model_by_its_name_has_parameters_and_averages(script, name):
    """In float32, and twice as much for AdamW; texts are as long as the example says."""
    cls, tokens = ("BertModel", 30_522) if "bert" in name else ("AutoModelForCausalLM", 50_257)
    file = script(LANGUAGE.format(cls=cls, name=name, tokens=tokens))
    row = predicted(file, "--example", "tokens:40")
    size = PARAMETERS[name.rpartition("/")[2]] * 4 / 1e9
    assert row["breakdown_gb"]["parameters"] == pytest.approx(size, rel=0.001)
    assert row["breakdown_gb"]["optimizer"] == pytest.approx(2 * size, rel=0.01)
    assert any("in the place of the data set glue: tokens:40" in note for note in row["notes"])
    process = predict(file)
    assert process.returncode == 2
    assert "line 11: the data set glue is not here" in process.stderr
    assert "--example tokens:256" in process.stderr


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


def test_a_model_that_is_not_known_needs_its_config(script, tmp_path):
    text = """
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained("somebody/new-7b").cuda()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(3):
    model(torch.zeros(1, 8, dtype=torch.long, device="cuda")).logits.sum().backward()
    optimizer.step()
    optimizer.zero_grad()
"""
    file = script(text)
    process = predict(file)
    assert process.returncode == 2
    assert "--config somebody/new-7b=path/to/config.json" in process.stderr
    config = tmp_path / "config.json"
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    config.write_text(
        json.dumps({"model_type": "llama", "vocab_size": 1000, "dtype": "bfloat16", **sizes})
    )
    row = predicted(file, "--config", f"somebody/new-7b={config}")
    # embedding and head; of a layer: attention's 4, the MLP's 3, 2 norms; the last norm
    weights = 2 * 1000 * 64 + 2 * (4 * 64 * 64 + 3 * 64 * 128 + 2 * 64) + 64
    assert row["breakdown_gb"]["parameters"] == pytest.approx(weights * 2 / 1e9, rel=0.01)
    folder = tmp_path / "new-7b"
    folder.mkdir()
    config.rename(folder / "config.json")  # as save_pretrained leaves it
    local = predicted(script(text.replace("somebody/new-7b", str(folder))))
    assert local["reserved_gb"] == row["reserved_gb"]


def test_a_config_that_is_none_is_told(script, tmp_path):
    (tmp_path / "config.json").write_text("{")
    for wrong in ("name", f"name={tmp_path}/no.json", f"name={tmp_path}/config.json"):
        process = predict(script(""), "--config", wrong)
        assert process.returncode == 2
        assert "is no NAME=path/to/config.json" in process.stderr


def test_what_is_saved_is_loaded_again_by_its_shapes(script):
    text = """
from transformers import AutoModelForSequenceClassification, AutoTokenizer
model = AutoModelForSequenceClassification.from_pretrained("distilbert-base-uncased", num_labels=3)
model.save_pretrained("kept")
AutoTokenizer.from_pretrained("distilbert-base-uncased").save_pretrained("kept")
model = AutoModelForSequenceClassification.from_pretrained("kept").cuda()
assert model.config.num_labels == 3 and len(AutoTokenizer.from_pretrained("kept")) == 30522
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(3):
    model(torch.zeros(1, 8, dtype=torch.long, device="cuda")).logits.sum().backward()
    optimizer.step()
"""
    row = predicted(script(text))
    weights = 66_362_880 + 768 * 768 + 768 + 768 * 3 + 3  # DistilBERT's, and the head's two layers
    assert row["breakdown_gb"]["parameters"] == pytest.approx(weights * 4 / 1e9, rel=0.001)


QLORA = """
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
quantized = BitsAndBytesConfig(
    load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
)
name = "TinyLlama/TinyLlama-1.1B-Chat-v1.0"
model = AutoModelForCausalLM.from_pretrained(name, quantization_config=quantized, device_map="auto")
model = prepare_model_for_kbit_training(model)
model = get_peft_model(model, LoraConfig(r=16, target_modules=["q_proj", "v_proj"]))
assert sum(weight.numel() for weight in model.parameters() if weight.requires_grad) == 2_252_800
optimizer = torch.optim.AdamW(model.parameters())
words = torch.zeros(1, 64, dtype=torch.long, device="cuda")
for _ in range(3):
    model(input_ids=words, labels=words).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
"""


def test_qlora_by_transformers_bitsandbytes_and_peft(script):
    """4 bits a weight of the layers and a scale for 64 of them; embedding, head, norms in 32."""
    row = predicted(script(QLORA))
    layers = 22 * (2048 * (2048 + 256 + 256 + 2048) + 3 * 2048 * 5632)
    rest = PARAMETERS["TinyLlama-1.1B-Chat-v1.0"] - layers
    size = layers * (0.5 + 4 / 64) + rest * 4 + 2_252_800 * 4
    assert row["breakdown_gb"]["parameters"] == pytest.approx(size / 1e9, rel=0.01)


def test_timms_pretrained_models_need_no_hub(script):
    pytest.importorskip("timm", reason="timm is not installed")
    text = """
import timm
model = timm.create_model("resnet50.a1_in1k", pretrained=True).cuda()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(3):
    model(torch.zeros(2, 3, 64, 64, device="cuda")).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
"""
    parameters = 25_557_032 + 53_120  # as torchvision's documentation says; and averages
    row = predicted(script(text))
    assert row["breakdown_gb"]["parameters"] == pytest.approx(parameters * 4 / 1e9, rel=0.001)


# ---------------------------------------------------------------- optimizers, kernels, detection


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
""")
    )
    parameters = 41_755_286  # as torchvision's documentation says
    assert row["breakdown_gb"]["parameters"] == pytest.approx(parameters * 4 / 1e9, rel=0.02)
    assert any("nonzero is taken to find all" in note for note in row["notes"])


# ----------------------------------------------------------------------------------------- loaders

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
for (batch,) in DataLoader(TensorDataset(torch.zeros(90000, 1024)), batch_size=samples // 2 * 2):
    model(batch.cuda()).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
"""
    file = script(text)
    row = predicted(file, "--batch-option", "--samples", "--batch-size", "2048")
    assert row["reserved_gb"] == predicted(file, "--", "--samples", "2048")["reserved_gb"]
    assert row["notes"] == []
    odd = predicted(file, "--batch-option", "--samples", "--batch-size", "2047")
    assert "--samples 2047 makes batches of 2046" in odd["notes"]
    process = predict(file, "--batch-option", "--samples")
    assert process.returncode == 2
    assert "name one" in process.stderr


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


# ---------------------------------------------------------------- ends, and what is refused


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
    row = predicted(
        script("""
model = nn.Linear(256, 256)
model.weight.uses = 3
model.scale = nn.Parameter(torch.tensor(6.0))
model.cuda()
assert model.scale.is_cuda
assert model.weight.uses == 3 and model.weight.is_cuda
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(3):
    model(torch.zeros(8, 256, device="cuda")).sum().backward()
    optimizer.step()
""")
    )
    assert row["breakdown_gb"]["parameters"] == pytest.approx(257 * 256 * 4 / 1e9, rel=0.01)


def test_of_spawned_processes_the_first_is_predicted(script):
    row = predicted(
        script("""
import os
import torch.distributed as dist
import torch.multiprocessing as mp

def train(rank, world, width):
    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = "localhost", "12355"
    dist.init_process_group("nccl", rank=rank, world_size=world)
    model = nn.parallel.DistributedDataParallel(nn.Linear(width, width, bias=False).to(rank))
    optimizer = torch.optim.Adam(model.parameters())
    for _ in range(4):
        model(torch.zeros(8, width).to(rank)).sum().backward()
        optimizer.step()
    with torch.cuda.device(rank):
        most = torch.cuda.memory_stats(rank)["allocated_bytes.all.peak"]
    assert most == torch.cuda.max_memory_allocated() > 5 * 4 * width * width

if __name__ == "__main__":
    mp.spawn(train, args=(torch.cuda.device_count(), 1024), nprocs=torch.cuda.device_count())
""")
    )
    assert row["breakdown_gb"]["optimizer"] == pytest.approx(2 * 4 * 1024 * 1024 / 1e9, rel=0.01)


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
