"""Pretrain the stand-in model on digit glyphs: `python -m rehearsal.pretraining.vision`.

Writes vit_digits.safetensors and its log, vit_digits.log, beside this file, in about a quarter of
an hour on two cores. The UCI digits, on which the model is later finetuned, are not used for
training: at the end their accuracy is measured, for the log only.
"""

import time

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch import Tensor, nn

from local_utilities import PIXEL_MEAN, PIXEL_STD
from rehearsal.data import as_rgb
from rehearsal.pretraining.glyphs import load_glyphs, sample
from rehearsal.weights import CHECKPOINT, FEATURES, WIDTH, small_vit

STEPS, BATCH, RATE = 1600, 128, 1e-3
GAIN = 6.0  # see `adapt_to_small_steps`
SPREAD = 0.3  # standard deviation of the new features before the tanh
SHRINKAGE = 0.3  # towards equal variances, of the covariance that whitens


def as_input(counts: Tensor) -> Tensor:
    """Digits [B, 8, 8] with values 0..16 as the scripts' models see them: [B, 3, 224, 224]."""
    images = as_rgb(counts).permute(0, 3, 1, 2).float() / 255
    return F.interpolate((images - PIXEL_MEAN) / PIXEL_STD, size=224, mode="bilinear")


@torch.no_grad()
def accuracy(model: nn.Module, counts: Tensor, labels: Tensor) -> float:
    """The share (0..1) of digits [B, 8, 8] that the model recognizes."""
    model.eval()
    right = [
        (model(as_input(part)).argmax(1) == answer).sum()
        for part, answer in zip(counts.split(128), labels.split(128), strict=True)
    ]
    return (sum(right) / len(labels)).item()


def train(log) -> nn.Module:
    """Train the model, with a plain 10-class head, to tell distorted glyphs apart."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    glyphs, labels = load_glyphs()
    log(f"{len(glyphs)} glyphs, {STEPS} steps of {BATCH} distorted copies")
    model = small_vit()
    model.heads = nn.Sequential(nn.Linear(WIDTH, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, STEPS, pct_start=0.1)
    start = time.perf_counter()
    for step in range(1, STEPS + 1):
        model.train()
        counts, answers = sample(glyphs, labels, BATCH, generator)
        loss = F.cross_entropy(model(as_input(counts)), answers, label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            new = accuracy(model, *sample(glyphs, labels, 512, generator))
            minutes = (time.perf_counter() - start) / 60
            log(f"step {step}: loss {loss:.3f}, new glyphs {new:.1%}, {minutes:.1f} min")
    uci = load_digits()
    counts, answers = torch.tensor(uci.images, dtype=torch.float32), torch.tensor(uci.target)
    log(f"UCI digits, without any finetuning: {accuracy(model, counts, answers):.1%}")
    return model


@torch.no_grad()
def class_tokens(model: nn.Module, counts: Tensor) -> Tensor:
    """The class token that the encoder computes for each digit: [B, WIDTH]."""
    headless = small_vit().eval()
    headless.load_state_dict(model.state_dict(), strict=False)
    headless.heads = nn.Identity()
    return torch.cat([headless(as_input(part)) for part in counts.split(128)])


@torch.no_grad()
def add_wide_features(model: nn.Module, tokens: Tensor, labels: Tensor) -> nn.Module:
    """Add a layer before the head that turns the class token into FEATURES random features.

    The more features a new head sees, the faster it learns. With the learning rates of ViT-L/16, a
    head on WIDTH numbers would hardly move in one short epoch. The token is whitened first, so that
    digits of one class lie closer together than digits of different classes. How to whiten is
    computed from `tokens` [B, WIDTH] and `labels` [B] of glyphs.
    """
    means = torch.stack([tokens[labels == digit].mean(0) for digit in range(10)])
    within = torch.cov((tokens - means[labels]).T)
    within += SHRINKAGE * within.diag().mean() * torch.eye(WIDTH)
    values, vectors = torch.linalg.eigh(within)
    whiten = vectors @ torch.diag(values**-0.5) @ vectors.T
    centre = tokens.mean(0)
    spread = ((tokens - centre) @ whiten).std()
    project = torch.randn(FEATURES, WIDTH) / WIDTH**0.5 * (SPREAD / spread) @ whiten
    wide = small_vit()
    wide.load_state_dict(model.state_dict(), strict=False)
    wide.heads.pre_logits.weight.copy_(project)
    wide.heads.pre_logits.bias.copy_(-project @ centre)
    return wide


@torch.no_grad()
def adapt_to_small_steps(model: nn.Module) -> None:
    """Multiply each layer norm by GAIN and divide the layer after it by GAIN.

    The model computes the same as before, but an optimizer step of a given size now changes its
    outputs GAIN times as much. The scripts' learning rates are meant for a model about ten times as
    wide, whose sums have ten times as many terms; this makes up for most of that.
    """
    pairs = [(model.encoder.ln, model.heads.pre_logits.weight)]
    for block in model.encoder.layers:
        pairs += [(block.ln_1, block.self_attention.in_proj_weight)]
        pairs += [(block.ln_2, block.mlp[0].weight)]
    for norm, weight in pairs:
        norm.weight *= GAIN
        norm.bias *= GAIN
        weight /= GAIN


def finish(model: nn.Module, log) -> None:
    """Turn the trained model into the checkpoint, float16 and without a head, and write it."""
    generator = torch.Generator().manual_seed(1)
    counts, labels = sample(*load_glyphs(), 3000, generator)
    torch.manual_seed(0)
    wide = add_wide_features(model, class_tokens(model, counts), labels)
    adapt_to_small_steps(wide)
    state = {
        name: value.half().contiguous()
        for name, value in wide.state_dict().items()
        if not name.startswith("heads.head")
    }
    save_file(state, CHECKPOINT)
    log(f"wrote {CHECKPOINT.name}: {sum(value.numel() for value in state.values()):,} numbers")


def main() -> None:
    with CHECKPOINT.with_suffix(".log").open("w") as file:

        def log(text: str) -> None:
            print(text, flush=True)
            print(text, file=file, flush=True)

        model = train(log)
        finish(model, log)


if __name__ == "__main__":
    main()
