"""The small network, trained by formulas, in float32 and without any technique.

Of the libraries under test, it uses only autograd, and for QLoRA bitsandbytes' 4-bit weights.
"""

import functools
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from bitsandbytes.functional import dequantize_4bit, quantize_nf4
from torch.func import functional_call

from benchmarks.small_network import (
    BETAS,
    DECAY,
    EPS,
    LARGEST_NORM,
    LOW_RANK,
    MOMENTUM,
    RATES,
    SHORT_BETAS,
    STEPS,
    Network,
    batches,
    factors,
    flat,
    matrices,
    network,
    optimizer_of,
    trained,
)  # fmt: skip


def plain(on: set[str]) -> torch.Tensor:
    """The parameters after float32 training by formulas: `OPTIMIZERS`, clipping, cosine schedule.

    If there is a scaler, a step whose gradients overflow is skipped.
    """
    model = network()
    leaves, used = low_rank(model, on) if LOW_RANK & on else trained_whole(model)
    step = OPTIMIZERS[optimizer_of(on)]
    free = {name: leaf for name, leaf in leaves.items() if trained(name, on)}
    state: dict[str, dict] = {name: {} for name in free}
    taken = 0
    for images, labels, boost in batches(on):
        if boost:
            continue
        logits = functional_call(model, used(leaves), (images, boost))
        loss = F.cross_entropy(logits, labels)
        gradients = dict(zip(free, torch.autograd.grad(loss, free.values()), strict=True))
        if "clipping" in on:
            norm = flat(gradients.values()).norm().item()
            gradients = {name: g * min(1, LARGEST_NORM / norm) for name, g in gradients.items()}
        rate = RATES[optimizer_of(on)]
        if "schedule" in on:
            rate *= (1 + math.cos(math.pi * taken / STEPS)) / 2
        taken += 1
        with torch.no_grad():
            for name, leaf in free.items():
                leaf.copy_(step(leaf, gradients[name], state[name], rate, taken))
    return flat(used(leaves).values())


def before(on: set[str]) -> torch.Tensor:
    """The model's parameters before training."""
    model = network()
    leaves, used = low_rank(model, on) if LOW_RANK & on else trained_whole(model)
    return flat(used(leaves).values())


def trained_whole(model: Network) -> tuple[dict, Callable]:
    """Training of all parameters, without LoRA."""
    return dict(model.named_parameters()), lambda leaves: leaves


def low_rank(model: Network, on: set[str]) -> tuple[dict, Callable]:
    """LoRA: b and a for each matrix of the blocks, and `shift`, which the pairs with a scaler need.

    The head is not trained: its changes would hide those of the others.
    """
    fixed = dict(model.named_parameters())
    leaves = {"shift": fixed["shift"]}
    torch.manual_seed(1)
    for name in matrices(model):
        leaves[f"{name}.a"], leaves[f"{name}.b"] = factors(fixed[name])
        if "QLoRA" in on:
            fixed[name] = dequantize_4bit(*quantize_nf4(fixed[name].data, compress_statistics=True))
    fixed = {name: tensor.detach() for name, tensor in fixed.items()}

    def used(leaves: dict) -> dict:
        sums = {
            name: fixed[name] + leaves[f"{name}.b"] @ leaves[f"{name}.a"]
            for name in matrices(model)
        }
        return fixed | {"shift": leaves["shift"]} | sums

    return leaves, used


def sgd(leaf, gradient, state, rate, taken):
    """SGD with momentum."""
    state["first"] = MOMENTUM * state.get("first", 0) + gradient
    return leaf - rate * state["first"]


def adamw(leaf, gradient, state, rate, taken, betas=BETAS, decay=DECAY):
    """Loshchilov and Hutter, "Decoupled weight decay regularization" (2019), algorithm 2."""
    state["first"] = betas[0] * state.get("first", 0) + (1 - betas[0]) * gradient
    state["second"] = betas[1] * state.get("second", 0) + (1 - betas[1]) * gradient**2
    unbiased = (state["second"] / (1 - betas[1] ** taken)).sqrt() + EPS
    step = state["first"] / (1 - betas[0] ** taken) / unbiased + decay * leaf
    return leaf - rate * step


def adafactor(leaf, gradient, state, rate, taken):
    """Shazeer and Stern, "Adafactor" (2018), algorithm 6, with PyTorch's defaults; no decay."""

    def root_mean_square(tensor):
        return tensor.pow(2).mean().sqrt().item()

    new = taken**-0.8
    squares = gradient**2
    if gradient.dim() > 1:
        rows, columns = squares.mean(-1, keepdim=True), squares.mean(-2, keepdim=True)
        state["rows"] = (1 - new) * state.get("rows", 0) + new * rows
        state["columns"] = (1 - new) * state.get("columns", 0) + new * columns
        second = state["rows"] * state["columns"] / state["rows"].mean(-2, keepdim=True)
    else:
        state["second"] = second = (1 - new) * state.get("second", 0) + new * squares
    step = gradient / second.clamp(min=torch.finfo(torch.float32).eps ** 2).sqrt()
    step /= max(1, root_mean_square(step))
    size = max(1e-3, root_mean_square(leaf)) * min(rate, taken**-0.5)
    return leaf - size * step


OPTIMIZERS = {
    "SGD": sgd,
    "8 bits": adamw,
    "Adafactor": adafactor,
    "bf16 states": functools.partial(adamw, betas=SHORT_BETAS, decay=0.0),
}
