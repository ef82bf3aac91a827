"""Models by their names, without a hub: predicted, and held against published sizes."""

import json

import pytest

from tests.scripts import TIGHT
from tests.warm import predict, predicted
from vramcast.libraries import model_sizes

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
    "SmolLM-135M": 134_515_008,
    "SmolLM-360M": 361_821_120,
    "opt-350m": 331_196_416,
    "whisper-tiny": 37_760_640,
    "whisper-small": 241_734_912,
    "Qwen2.5-0.5B": 494_032_768,
    "Qwen2.5-7B": 7_615_616_512,
}


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


def test_known_parts_of_stable_diffusion_have_the_published_number_of_parameters():
    import torch

    diffusers = pytest.importorskip("diffusers")
    from transformers import AutoConfig, CLIPTextModel

    from vramcast.libraries.diffusers import KNOWN

    unet, vae = diffusers.UNet2DConditionModel, diffusers.AutoencoderKL
    published = {
        ("stable-diffusion-v1-5", "unet", unet): 859_520_964,
        ("stable-diffusion-v1-5", "vae", vae): 83_653_863,
        ("stable-diffusion-2-1", "unet", unet): 865_910_724,
        ("stable-diffusion-xl-base-1.0", "unet", unet): 2_567_463_684,
        ("stable-diffusion-v1-5", "text_encoder", CLIPTextModel): 123_060_480,
        ("stable-diffusion-2-1", "tokenizer", CLIPTextModel): 340_387_840,
    }
    for (name, part, cls), number in published.items():
        with torch.device("meta"):
            if cls is CLIPTextModel:
                model = cls(AutoConfig.for_model(**model_sizes.find(f"some/{name}", {}, part)))
            else:
                model = cls.from_config(KNOWN[name][part])
        assert sum(weight.numel() for weight in model.parameters()) == number, (name, part)


DIFFUSION = """
from diffusers import DDPMScheduler, UNet2DConditionModel
from transformers import AutoTokenizer, CLIPTextModel
name = "somebody/stable-diffusion-v1-5"
words = AutoTokenizer.from_pretrained(name, subfolder="tokenizer")
ids = words("a cat", padding="max_length", return_tensors="pt").input_ids
assert ids.shape == (1, 77) and len(words) == 49408
text = CLIPTextModel.from_pretrained(name, subfolder="text_encoder")
DDPMScheduler.from_pretrained(name, subfolder="scheduler")
model = UNet2DConditionModel.from_pretrained(name, subfolder="unet", torch_dtype=torch.bfloat16)
assert sum(weight.numel() for weight in model.parameters()) == 859_520_964
head = nn.Linear(768, 1).cuda()
optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
for _ in range(3):
    head(text.cuda()(ids.cuda())[0]).sum().backward()
    optimizer.step()
"""


def test_parts_of_a_model_of_diffusers_are_found_by_their_folders(script, tmp_path):
    """Its text encoder alone is on the GPU."""
    pytest.importorskip("diffusers")
    row = predicted(script(DIFFUSION))
    assert row["breakdown_gb"]["parameters"] == pytest.approx(4 * 123_060_480 / 1e9, rel=0.01)
    unknown = predict(script(DIFFUSION.replace("diffusion-v1-5", "diffusion-nobody-knows")))
    assert "stable-diffusion-nobody-knows/text_encoder are not known here" in unknown.stderr


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
    row = predicted(file, "--example", "tokens:40", **TIGHT)
    size = PARAMETERS[name.rpartition("/")[2]] * 4 / 1e9
    assert row["breakdown_gb"]["parameters"] == pytest.approx(size, rel=0.001)
    assert row["breakdown_gb"]["optimizer"] == pytest.approx(2 * size, rel=0.01)
    assert any("in the place of the data set glue: tokens:40" in note for note in row["notes"])
    process = predict(file)
    assert process.returncode == 2
    assert "line 11: the data set glue is not here" in process.stderr
    assert "--example tokens:256" in process.stderr


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
model = AutoModelForSequenceClassification.from_pretrained("bert-base-uncased")
assert sum(weight.numel() for weight in model.parameters()) == 109_483_778  # two classes
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
    row = predicted(script(text), **TIGHT)
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
    row = predicted(script(QLORA), **TIGHT)
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
