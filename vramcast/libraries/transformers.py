"""transformers' models, tokenizers and image processors, without the hub and without weights."""

import functools
import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import torch

from vramcast.libraries import model_sizes
from vramcast.libraries.context import Context
from vramcast.libraries.datasets import STAND_INS
from vramcast.operators import ranges
from vramcast.when_imported import when_imported

ENCODERS = (  # whose tokenizers put a text between two special tokens
    "bert", "distilbert", "roberta", "xlm-roberta", "big_bird", "albert", "electra", "mpnet",
    "deberta-v2", "camembert", "modernbert",
)  # fmt: skip
ENCODERS_TOKENS = {
    "pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}  # fmt: skip
CHAT = "{% for one in messages %}{{ one['role'] + ' ' + one['content'] + ' ' }}{% endfor %}"
HUB = (
    "cache_dir", "revision", "code_revision", "token", "use_safetensors", "variant", "subfolder",
    "force_download", "local_files_only", "proxies", "_commit_hash", "_from_auto",
    "_from_pipeline", "gguf_file", "adapter_kwargs",
)  # fmt: skip
WORDS = (
    "a tokenizer that is not here makes a token of each word, where real ones make more of some: "
    "its texts may be longer (--example tokens:512 says how long)"
)
FLASH = ("flash_attention_2", "flash_attention_3")


def install(context: Context) -> None:
    """Give these to scripts that ask transformers.

    A file config.json that was given (`--config`) comes before all other sources.
    """
    given, notes = dict(context.options.configs), context.notes
    os.environ["HF_DEACTIVATE_ASYNC_LOAD"] = "1"  # its threads would not be followed

    def configurations(module: ModuleType) -> None:
        def get_config_dict(cls, name, **options):
            sizes = model_sizes.find(name, given, options.get("subfolder"))
            return sizes, _without_hub(options)

        module.PreTrainedConfig.get_config_dict = classmethod(get_config_dict)

    def models(module: ModuleType) -> None:
        original = module.PreTrainedModel.from_pretrained.__func__

        def from_pretrained(cls, name=None, *args, config=None, **options):
            part, options = options.get("subfolder") or "", _without_hub(options)
            if options.get("attn_implementation") in FLASH:
                options["attn_implementation"] = "sdpa"
                notes.append("flash_attention: predicted as PyTorch's own, which is flash's kernel")
            if name is None:
                return original(cls, *args, config=config, **options)
            if config is None:
                config, options = cls.config_class.from_pretrained(
                    name, return_unused_kwargs=True, subfolder=part, **options
                )
            made = original(
                cls, None, *args, config=config, state_dict=_file(cls, config), **options
            )
            for one in made[:1] if isinstance(made, tuple) else (made,):
                one.name_or_path = one.config._name_or_path = name
            return made

        def save_pretrained(model, folder, *args, **options):
            model.config.save_pretrained(folder)  # all that is read back

        module.PreTrainedModel.from_pretrained = classmethod(from_pretrained)
        module.PreTrainedModel.save_pretrained = save_pretrained
        module.maybe_load_adapters = lambda name, *args, **options: (None, name, options)

    def automatic_models(module: ModuleType) -> None:
        module.find_adapter_config_file = lambda *args, **options: None
        module.resolve_revision = lambda name, revision=None, **options: revision

    def tokenizers(module: ModuleType, name: str = "PreTrainedTokenizerBase") -> None:
        cls = getattr(module, name)
        original = cls.from_pretrained.__func__

        def from_pretrained(cls, name, *args, **options):
            part = options.get("subfolder") or ""
            if _here(name, part, "tokenizer.json", "tokenizer_config.json"):
                return original(cls, name, *args, **options | {"local_files_only": True})
            sizes = model_sizes.find(name, given, part)
            return tokenizer(sizes, options, notes)

        cls.from_pretrained = classmethod(from_pretrained)
        cls.save_pretrained = lambda tokenizer, folder, **options: ()  # written below Python

    def image_processors(module: ModuleType, name: str = "ImageProcessingMixin") -> None:
        cls = getattr(module, name)
        original = cls.from_pretrained.__func__

        def from_pretrained(cls, name, *args, **options):
            if _here(name, options.get("subfolder") or "", "preprocessor_config.json"):
                return original(cls, name, *args, **options | {"local_files_only": True})
            return image_processor(cls, model_sizes.find(name, given))

        cls.from_pretrained = classmethod(from_pretrained)

    when_imported("transformers.generation.utils", _generate_to_the_end)
    when_imported("transformers.configuration_utils", configurations)
    when_imported("transformers.modeling_utils", models)
    when_imported("transformers.models.auto.auto_factory", automatic_models)
    when_imported("transformers.tokenization_utils_base", tokenizers)
    when_imported(
        "transformers.models.auto.tokenization_auto",
        functools.partial(tokenizers, name="AutoTokenizer"),
    )
    when_imported("transformers.image_processing_base", image_processors)
    when_imported(
        "transformers.models.auto.image_processing_auto",
        functools.partial(image_processors, name="AutoImageProcessor"),
    )


def _generate_to_the_end(module: ModuleType) -> None:
    """Let text generation end at its greatest length, since the tokens are not known."""
    criteria, longest = module.StoppingCriteriaList, False
    asked = criteria.__call__

    def ask(some, tokens, *args, **options):
        nonlocal longest
        longest = any(
            tokens.shape[1] >= getattr(one, "max_length", tokens.shape[1] + 1) for one in some
        )
        return asked(some, tokens, *args, **options)

    def goes_on(*args, **options) -> bool:
        nonlocal longest
        ended, longest = longest, False
        return not ended

    criteria.__call__ = ask
    module.GenerationMixin._has_unfinished_sequences = goes_on


def _without_hub(options: dict) -> dict:
    """The options without those on where a file comes from."""
    return {key: value for key, value in options.items() if key not in HUB}


def _here(name: str, part: str, *files: str) -> bool:
    """Whether one of these files is in (a part of) a model's folder, or in the hub's cache."""
    places = [f"{part}/{file}" if part else file for file in files]
    return any(
        (Path(name) / place).is_file() or model_sizes.cached(str(name), place) for place in places
    )


def _file(cls, config) -> dict[str, torch.Tensor]:
    """The content of a model's file on the host: the shapes of its class's weights, in its type."""
    kind = config.dtype or torch.float32
    with torch.device("meta"):
        model = cls(config)
    tensors = dict(model.named_parameters())  # a weight that is used twice is kept once
    kept = model.state_dict()
    tensors |= {name: buffer for name, buffer in model.named_buffers() if name in kept}
    made = {
        name: torch.empty(
            tensor.shape, dtype=kind if tensor.is_floating_point() else tensor.dtype, device="cpu"
        )
        for name, tensor in tensors.items()
    }
    for tensor in made.values():
        ranges.drop(tensor)
    return made


def tokenizer(sizes: Mapping, options: Mapping, notes: list[str]):
    """A tokenizer that makes one token of each word, always the same one.

    It has the model's number of tokens, special tokens and longest input. A note says if it was
    given real texts, of which the real tokenizer would make more tokens.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    class TokenAWord(PreTrainedTokenizerFast):
        def _encode_plus(self, text, *args, **options):
            first = text if isinstance(text, str) else next(iter(text), "")
            if isinstance(first, str) and not first.startswith(STAND_INS):
                notes.append(WORDS)
            return super()._encode_plus(text, *args, **options)

    special = _special_tokens(sizes)
    places = {place: word for word, place in special.values()}
    count = sizes.get("vocab_size") or sizes.get("text_config", {})["vocab_size"]
    words = {places.get(place, f"word{place}"): place for place in range(count)}
    ordinary = next(word for place, word in enumerate(words) if place not in places)
    made = Tokenizer(models.WordLevel(words, special.get("unk_token", (ordinary,))[0]))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if "cls_token" in special:
        made.post_processor = processors.BertProcessing(special["sep_token"], special["cls_token"])
    kept = {key: options[key] for key in ("model_max_length", "padding_side") if key in options}
    return TokenAWord(
        tokenizer_object=made,
        model_input_names=["input_ids", "attention_mask"],
        chat_template=CHAT,
        **{"model_max_length": _longest(sizes)} | kept,
        **{key: word for key, (word, _) in special.items()},
    )


def _special_tokens(sizes: Mapping) -> dict[str, tuple[str, int]]:
    """The model's special tokens, by their names in transformers: the token and its number."""
    if sizes["model_type"] in ENCODERS:
        first = sizes.get("pad_token_id") or 0
        return {name: (word, first + n) for n, (name, word) in enumerate(ENCODERS_TOKENS.items())}
    found = {}
    for kind in ("pad", "bos", "eos"):
        place = sizes.get(f"{kind}_token_id")
        place = place[0] if isinstance(place, list) else place
        if place is not None:  # two kinds may be one token
            same = [word for word, number in found.values() if number == place]
            found[f"{kind}_token"] = (same[0] if same else f"<{kind}>", place)
    return found


def _longest(sizes: Mapping) -> int:
    """The longest input in tokens; models like RoBERTa count positions from after the padding."""
    for key in ("max_position_embeddings", "n_positions"):
        if key in sizes:
            kind = sizes["model_type"]
            first = sizes["pad_token_id"] + 1 if kind in ("roberta", "xlm-roberta") else 0
            return sizes[key] - first
    return 512


def image_processor(cls: type, sizes: Mapping):
    """An image processor of this class (or ViT's) that resizes images for the model."""
    from transformers import ViTImageProcessor

    side = sizes.get("image_size") or sizes.get("vision_config", {}).get("image_size", 224)
    height, width = (side, side) if isinstance(side, int) else side
    cls = ViTImageProcessor if cls.__name__.startswith("Auto") else cls
    return cls(size={"height": height, "width": width})
