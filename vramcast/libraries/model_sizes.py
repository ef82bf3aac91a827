"""The sizes of a model that a script names, from its config.json. Weights are never read."""

import json
from collections.abc import Mapping
from pathlib import Path


class UnknownModel(Exception):
    """A model's name for which no sizes are known here."""


def _of(hidden: int, layers: int, heads: int, inner: int, **others) -> dict:
    """Sizes under the names that most configuration classes use."""
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    return dict(zip(names, (hidden, layers, heads, inner), strict=True)) | others


def _gpt2(embedding: int, layers: int, heads: int) -> dict:
    return {"n_embd": embedding, "n_layer": layers, "n_head": heads}


def _t5(model: int, inner: int, layers: int, heads: int, **others) -> dict:
    sizes = {"d_model": model, "d_ff": inner, "num_layers": layers, "num_decoder_layers": layers}
    return sizes | {"num_heads": heads} | others


def _whisper(model: int, layers: int, heads: int) -> dict:
    sizes = {"d_model": model, "vocab_size": 51865}
    sizes |= {"architectures": ["WhisperForConditionalGeneration"]}
    for part in ("encoder", "decoder"):
        sizes |= {f"{part}_layers": layers, f"{part}_attention_heads": heads}
        sizes |= {f"{part}_ffn_dim": 4 * model}
    return sizes


_ROBERTA = {"max_position_embeddings": 514, "type_vocab_size": 1, "vocab_size": 50265}
_ROBERTA |= {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
_XLM = _ROBERTA | {"vocab_size": 250002}
_BFLOAT16, _FLOAT16 = {"dtype": "bfloat16"}, {"dtype": "float16"}
_LLAMA3 = {"vocab_size": 128256, "bos_token_id": 128000, "eos_token_id": 128001, **_BFLOAT16}
_LLAMA3 |= {"num_key_value_heads": 8, "max_position_embeddings": 131072}
_QWEN = {"vocab_size": 151936, "eos_token_id": 151643, "pad_token_id": 151643, **_BFLOAT16}
_QWEN |= {"max_position_embeddings": 32768}
_PYTHIA = {"vocab_size": 50304, "bos_token_id": 0, "eos_token_id": 0, **_FLOAT16}
_DEBERTA = {"vocab_size": 128100, "type_vocab_size": 0, "relative_attention": True}
_DEBERTA |= {"pos_att_type": ["p2c", "c2p"], "position_buckets": 256, "share_att_key": True}
_DEBERTA |= {"position_biased_input": False, "norm_rel_ebd": "layer_norm"}
_DEBERTA |= {"max_relative_positions": -1}
_SMOL = {"vocab_size": 49152, "tie_word_embeddings": True, **_BFLOAT16}
_SMOL |= {"bos_token_id": 0, "eos_token_id": 0, "max_position_embeddings": 2048}
_SMOL_135M = _of(576, 30, 9, 1536, num_key_value_heads=3, **_SMOL)
_SMOL_360M = _of(960, 32, 15, 2560, num_key_value_heads=5, **_SMOL)
_CLIP_L = ("clip_text_model", _of(768, 12, 12, 3072, projection_dim=768))
_CLIP_H = ("clip_text_model", _of(1024, 23, 16, 4096, projection_dim=512, hidden_act="gelu"))
_CLIP_G = (
    "clip_text_model",
    _of(1280, 32, 20, 5120, projection_dim=1280, hidden_act="gelu")
    | {"architectures": ["CLIPTextModelWithProjection"]},
)

# By the last part of the name on the hub: the model_type, and what differs from the defaults of its
# configuration class in transformers. From the models' papers and cards; the tests hold the numbers
# of parameters against those that are published.
KNOWN = {
    "bert-base-uncased": ("bert", {}),
    "bert-base-cased": ("bert", {"vocab_size": 28996}),
    "bert-base-multilingual-cased": ("bert", {"vocab_size": 119547}),
    "bert-large-uncased": ("bert", _of(1024, 24, 16, 4096)),
    "distilbert-base-uncased": ("distilbert", {}),
    "all-MiniLM-L6-v2": ("bert", _of(384, 6, 12, 1536)),
    "roberta-base": ("roberta", _ROBERTA),
    "roberta-large": ("roberta", _of(1024, 24, 16, 4096, **_ROBERTA)),
    "distilroberta-base": ("roberta", _of(768, 6, 12, 3072, **_ROBERTA)),
    "xlm-roberta-base": ("xlm-roberta", _XLM),
    "xlm-roberta-large": ("xlm-roberta", _of(1024, 24, 16, 4096, **_XLM)),
    "deberta-v3-base": ("deberta-v2", _of(768, 12, 12, 3072, **_DEBERTA)),
    "bigbird-roberta-base": ("big_bird", {}),
    "gpt2": ("gpt2", {}),
    "distilgpt2": ("gpt2", _gpt2(768, 6, 12)),
    "gpt2-medium": ("gpt2", _gpt2(1024, 24, 16)),
    "gpt2-large": ("gpt2", _gpt2(1280, 36, 20)),
    "gpt2-xl": ("gpt2", _gpt2(1600, 48, 25)),
    "opt-125m": ("opt", _FLOAT16),
    "opt-350m": (
        "opt",
        {"hidden_size": 1024, "ffn_dim": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
        | {"word_embed_proj_dim": 512, "do_layer_norm_before": False, **_FLOAT16},
    ),
    "SmolLM-135M": ("llama", _SMOL_135M),
    "SmolLM2-135M": ("llama", _SMOL_135M),
    "SmolLM-360M": ("llama", _SMOL_360M),
    "SmolLM2-360M": ("llama", _SMOL_360M),
    "whisper-tiny": ("whisper", _whisper(384, 4, 6)),
    "whisper-base": ("whisper", _whisper(512, 6, 8)),
    "whisper-small": ("whisper", _whisper(768, 12, 12)),
    "pythia-70m": ("gpt_neox", _of(512, 6, 8, 2048, **_PYTHIA)),
    "pythia-160m": ("gpt_neox", _of(768, 12, 12, 3072, **_PYTHIA)),
    "pythia-410m": ("gpt_neox", _of(1024, 24, 16, 4096, **_PYTHIA)),
    "t5-small": ("t5", _t5(512, 2048, 6, 8)),
    "t5-base": ("t5", _t5(768, 3072, 12, 12)),
    "t5-large": ("t5", _t5(1024, 4096, 24, 16)),
    "Llama-2-7b-hf": ("llama", _FLOAT16),
    "TinyLlama-1.1B-Chat-v1.0": (
        "llama",
        _of(2048, 22, 32, 5632, num_key_value_heads=4, **_BFLOAT16),
    ),
    "Llama-3.1-8B": ("llama", _of(4096, 32, 32, 14336, **_LLAMA3)),
    "Llama-3.2-1B": ("llama", _of(2048, 16, 32, 8192, tie_word_embeddings=True, **_LLAMA3)),
    "Llama-3.2-3B": ("llama", _of(3072, 28, 24, 8192, tie_word_embeddings=True, **_LLAMA3)),
    "Mistral-7B-v0.1": ("mistral", _BFLOAT16),
    "Qwen2.5-0.5B": (
        "qwen2",
        _of(896, 24, 14, 4864, num_key_value_heads=2, tie_word_embeddings=True, **_QWEN),
    ),
    "Qwen2.5-1.5B": (
        "qwen2",
        _of(1536, 28, 12, 8960, num_key_value_heads=2, tie_word_embeddings=True, **_QWEN),
    ),
    "Qwen2.5-7B": (
        "qwen2",
        _of(3584, 28, 28, 18944, num_key_value_heads=4, **_QWEN) | {"vocab_size": 152064},
    ),
    "vit-base-patch16-224": ("vit", {}),
    "vit-large-patch16-224": ("vit", _of(1024, 24, 16, 4096)),
    "clip-vit-base-patch32": ("clip", {}),
    **{f"stable-diffusion-{name}/text_encoder": _CLIP_L for name in ("v1-4", "v1-5")},
    **{f"stable-diffusion-{name}/text_encoder": _CLIP_H for name in ("2-base", "2-1-base", "2-1")},
    "stable-diffusion-xl-base-1.0/text_encoder": _CLIP_L,
    "stable-diffusion-xl-base-1.0/text_encoder_2": _CLIP_G,
}
ENDINGS = ("-Instruct", "-in21k", "-hf")  # of the same sizes


def find(name: str, given: Mapping[str, str], part: str | None = None) -> dict:
    """What a model's config.json says, with its `model_type`; `part` is a folder in the model's.

    It is looked for in `given` (files by names), in a folder of this name, in the hub's cache on
    this machine, and in KNOWN, in this order. Raises UnknownModel if it is in none of these.
    """
    name, part = str(name), (part or "").replace("tokenizer", "text_encoder")
    whole, file = (f"{name}/{part}", f"{part}/config.json") if part else (name, "config.json")
    for place in (given.get(whole), Path(name) / file, cached(name, file)):
        if place and Path(place).is_file():
            return json.loads(Path(place).read_text())
    short = name.rpartition("/")[2]
    for ending in ("", *ENDINGS):
        known = short.removesuffix(ending) + whole.removeprefix(name)
        if known in KNOWN:
            return _as_file(*KNOWN[known])
    raise unknown(whole)


def unknown(name: str) -> UnknownModel:
    """The error for a model, or a model's part, whose sizes are not known here."""
    return UnknownModel(
        f"the sizes of {name} are not known here. They stand in its config.json (a few KB, on the "
        f"model's page on the hub):  --config {name}=path/to/config.json"
    )


def _as_file(kind: str, differing: dict) -> dict:
    """A configuration as its config.json has it, with the class of the pretrained model."""
    from transformers import AutoConfig
    from transformers.models.auto import modeling_auto as auto

    for names in (
        auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
        auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
        auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
        auto.MODEL_MAPPING_NAMES,
    ):
        if kind in names:
            sizes = AutoConfig.for_model(kind, **differing).to_dict()
            return sizes | {"architectures": differing.get("architectures", [names[kind]])}
    raise UnknownModel(kind)


def cached(name: str, file: str) -> str | None:
    """The path of a model's file in the hub's cache on this machine; None if it is not there."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(name, file)
    except HFValidationError:  # no name of a repository
        return None
    return found if isinstance(found, str) else None
