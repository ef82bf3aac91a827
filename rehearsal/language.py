"""Small language models, their tokenizer and reviews, in the place of those on a model hub.

The models are of the classes that the script asks for, but far smaller, and were pretrained here
(pretraining/language.py).
"""

from pathlib import Path
from types import ModuleType

import torch
from safetensors.torch import load_file

from rehearsal import reviews, used
from rehearsal.pretraining import FOLDER
from vramcast.when_imported import when_imported

TOKENIZER = FOLDER / "tokenizer.json"
WIDTH = 128
GAIN = 8.0  # see `adapt_to_small_steps` in pretraining/language.py
VOCABULARY = 900
SIZES = {  # by the configurations' model_type
    "distilbert": {
        "dim": WIDTH, "hidden_dim": 2 * WIDTH, "n_layers": 2, "n_heads": 2,
        "max_position_embeddings": 512,
    },
    "big_bird": {
        "hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_hidden_layers": 2,
        "num_attention_heads": 2, "max_position_embeddings": 4096,
    },
}  # fmt: skip
NAMES = {"distilbert": "distilbert", "bigbird": "big_bird"}  # in a hub's names: model_type
SPECIAL = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}


def model_type(name: str) -> str:
    """The model_type that a hub's name such as "google/bigbird-roberta-base" stands for."""
    for part, kind in NAMES.items():
        if part in str(name):
            return kind
    raise RuntimeError(f"there is no stand-in for {name}: only for DistilBERT and BigBird")


def checkpoint(kind: str) -> Path:
    """The file with the pretrained weights for a model_type."""
    return FOLDER / f"{kind}.safetensors"


def new_tokenizer(**options):
    """The WordPiece tokenizer that pretraining/language.py trained on the reviews."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_file=str(TOKENIZER),
        model_input_names=["input_ids", "attention_mask"],
        **SPECIAL | options,
    )


def new_model(kind: str, **options) -> torch.nn.Module:
    """A small model for sequence classification of this model_type, not pretrained."""
    from transformers import AutoConfig, AutoModelForSequenceClassification

    config = AutoConfig.for_model(
        kind, vocab_size=VOCABULARY, pad_token_id=0, **SIZES[kind], **options
    )
    return AutoModelForSequenceClassification.from_config(config)


def small_tokenizer(name: str, *args, **options):
    """In the place of `AutoTokenizer.from_pretrained`."""
    longest = SIZES[model_type(name)]["max_position_embeddings"]
    used[f"the tokenizer of {name}"] = "a WordPiece tokenizer, trained on these reviews"
    kept = {key: options[key] for key in ("model_max_length", "padding_side") if key in options}
    return new_tokenizer(**{"model_max_length": longest} | kept)


def small_model(cls, name: str, *args, num_labels: int = 2, **options):
    """In the place of the `from_pretrained` of models for sequence classification."""
    kind = model_type(name)
    model = new_model(kind, num_labels=num_labels)
    model.base_model.load_state_dict(load_file(checkpoint(kind)))  # float16 on disk
    parameters = sum(p.numel() for p in model.parameters()) / 1e6
    used[name] = (
        f"a {type(model).__name__} of {parameters:.1f} million parameters, pretrained on other "
        "such reviews"
    )
    return model


def load_reviews(path: str, *args, **kwargs):
    """The reviews with the interface of `datasets.load_dataset("stanfordnlp/imdb")`."""
    from datasets import Dataset, DatasetDict

    if "imdb" not in path:
        raise RuntimeError(f"there is no stand-in for the data set {path}: only for IMDb")
    train, test = reviews.write_all()
    used["IMDb"] = f"{len(train) + len(test)} short reviews, written for this project"
    return DatasetDict(train=Dataset.from_list(train), test=Dataset.from_list(test))


def install() -> None:
    """Give these to scripts that ask transformers or datasets for theirs."""
    when_imported("transformers.models.auto.tokenization_auto", _replace_tokenizer)
    when_imported("transformers.models.auto.modeling_auto", _replace_classifier)
    when_imported("transformers.modeling_utils", _replace_models)
    when_imported("datasets", _replace_loading)


def _replace_tokenizer(module: ModuleType) -> None:
    module.AutoTokenizer.from_pretrained = small_tokenizer


def _replace_classifier(module: ModuleType) -> None:
    module.AutoModelForSequenceClassification.from_pretrained = classmethod(small_model)


def _replace_models(module: ModuleType) -> None:
    module.PreTrainedModel.from_pretrained = classmethod(small_model)


def _replace_loading(module: ModuleType) -> None:
    module.load_dataset = load_reviews
