"""Language models, tokenizers and reviews by their shapes: nothing from a model hub is needed."""

# Models whose sizes are the defaults of their configuration class in transformers, by the last part
# of their names on the hub: model_type, what differs from the defaults, and the longest input.
MODELS = {
    "distilbert-base-uncased": ("distilbert", {}, 512),
    "bert-base-uncased": ("bert", {}, 512),
    "roberta-base": ("roberta", {"max_position_embeddings": 514, "type_vocab_size": 1}, 512),
    "bigbird-roberta-base": ("big_bird", {}, 4096),
    "gpt2": ("gpt2", {}, 1024),
    "vit-base-patch16-224": ("vit", {}, 197),
}
SPECIAL = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
REVIEW = "a film " * 4096  # at least as long as any of them reads


class UnknownModel(Exception):
    """A name whose sizes are not known here."""


def known(name: str) -> tuple[str, dict, int]:
    """The entry of MODELS for a hub's name; UnknownModel."""
    try:
        return MODELS[str(name).rpartition("/")[2]]
    except KeyError:
        raise UnknownModel(
            f"the sizes of {name} are not known here, only those of {', '.join(MODELS)}; "
            "a model made from a configuration (from_config) needs no name"
        ) from None


def config(name: str, **options):
    """In the place of `AutoConfig.from_pretrained`."""
    from transformers import AutoConfig

    kind, differing, _ = known(name)
    return AutoConfig.for_model(kind, **differing | options)


def tokenizer(name: str, *args, **options):
    """In the place of `AutoTokenizer.from_pretrained`. What it knows of words does not matter."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(
        models.WordLevel({word: n for n, word in enumerate(SPECIAL.values())}, "[UNK]")
    )
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    kept = {key: options[key] for key in ("model_max_length", "padding_side") if key in options}
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        model_input_names=["input_ids", "attention_mask"],
        **{"model_max_length": known(name)[2]} | SPECIAL | kept,
    )


def model(cls, name: str, *args, dtype=None, torch_dtype=None, **options):
    """In the place of `from_pretrained`: the class's model, in float32 unless a dtype is named."""
    options.pop("cache_dir", None)
    settings = options.pop("config", None) or config(name, **options)
    made = cls.from_config(settings) if hasattr(cls, "from_config") else cls(settings)
    dtype = dtype or torch_dtype
    return made.eval() if dtype in (None, "auto") else made.eval().to(dtype)


def load_reviews(path: str, *args, **kwargs):
    """As IMDb, with reviews that are as long as a model reads; few, for speed's sake."""
    if "imdb" not in path:
        raise UnknownModel(f"the shapes of the data set {path} are not known here, only IMDb's")
    from datasets import Dataset, DatasetDict

    reviews = Dataset.from_dict({"text": [REVIEW] * 512, "label": [0] * 512})
    return DatasetDict(train=reviews, test=reviews)


def install() -> None:
    """Hand these out wherever a script asks transformers or datasets. Cannot be undone."""
    try:
        import datasets
        import transformers
        from transformers.models.auto import modeling_auto
    except ModuleNotFoundError:  # a script that needs them says so itself
        return
    transformers.AutoConfig.from_pretrained = config
    transformers.AutoTokenizer.from_pretrained = tokenizer
    for name, cls in vars(modeling_auto).items():
        if name.startswith("AutoModel"):
            cls.from_pretrained = classmethod(model)
    transformers.PreTrainedModel.from_pretrained = classmethod(model)
    datasets.load_dataset = load_reviews
