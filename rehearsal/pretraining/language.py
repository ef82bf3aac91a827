"""Pretrain the small language models: `python -m rehearsal.pretraining.language`.

Writes tokenizer.json, distilbert.safetensors, big_bird.safetensors and language.log beside this
file, in a minute on two cores. The models learn to tell good from bad opinions. Their reviews
are not those that the scripts see, but consist of the same sentences. The classifier is not kept.
"""

import time

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import nn

from rehearsal import reviews
from rehearsal.language import (
    GAIN,
    SPECIAL,
    TOKENIZER,
    VOCABULARY,
    checkpoint,
    new_model,
    new_tokenizer,
)

STEPS, BATCH, RATE = 300, 32, 5e-4
FIRST = 10_000  # number of the first review, far from the scripts' own


def train_tokenizer() -> None:
    """Write tokenizer.json: words and parts of words in the reviews of the training set.

    The file is kept because a new training may give other numbers to words of equal frequency.
    """
    tokenizer = Tokenizer(models.WordPiece(unk_token=SPECIAL["unk_token"]))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=VOCABULARY, special_tokens=list(SPECIAL.values()), show_progress=False
    )
    texts, _ = reviews.write_all()
    tokenizer.train_from_iterator((review["text"] for review in texts), trainer)
    ends = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=ends)
    tokenizer.save(str(TOKENIZER))


def train(kind: str, log) -> nn.Module:
    """A model of the given model_type, trained for STEPS steps."""
    torch.manual_seed(0)
    tokenizer = new_tokenizer()
    # with full attention, which has the same parameters and needs no minimum of tokens
    model = new_model(kind, **({"attention_type": "original_full"} if kind == "big_bird" else {}))
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, STEPS, pct_start=0.1)
    start = time.perf_counter()
    for step in range(1, STEPS + 1):
        model.train()
        first = FIRST + step * BATCH
        texts, labels = zip(*(reviews.write(n).values() for n in range(first, first + BATCH)))
        tokens = tokenizer(list(texts), padding=True, return_tensors="pt")
        logits = model(**tokens).logits
        loss = F.cross_entropy(logits, torch.tensor(labels), label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            log(f"{kind}, step {step}: loss {loss:.3f}, {time.perf_counter() - start:.0f} s")
    return model


@torch.no_grad()
def adapt_to_small_steps(model: nn.Module) -> None:
    """Let the classifier see features GAIN times as large: see vision.py."""
    norms = [module for module in model.base_model.modules() if isinstance(module, nn.LayerNorm)]
    norms[-1].weight *= GAIN
    norms[-1].bias *= GAIN


def main() -> None:
    with checkpoint("language").with_suffix(".log").open("w") as file:

        def log(text: str) -> None:
            print(text, flush=True)
            print(text, file=file, flush=True)

        train_tokenizer()
        for kind in ("distilbert", "big_bird"):
            model = train(kind, log)
            adapt_to_small_steps(model)
            state = model.base_model.state_dict()
            state = {name: value.half().contiguous() for name, value in state.items()}
            save_file(state, checkpoint(kind))
            log(
                f"wrote {checkpoint(kind).name}: {sum(v.numel() for v in state.values()):,} numbers"
            )


if __name__ == "__main__":
    main()
