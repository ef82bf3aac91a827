"""Liger's benchmark of operators, in plain PyTorch or transformers: forward and backward.

Each function makes the inputs as its script in benchmark/scripts does, and what Liger's own layer
puts beside them, and returns what is then run ten times there; gradients add up. Three times are
enough for the highest figure.
"""

import functools

import torch
import torch.nn.functional as F
from torch import nn
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import (
    LlamaMLP,
    LlamaRMSNorm,
    LlamaRotaryEmbedding,
    apply_rotary_pos_emb,
)
from transformers.models.llama4.configuration_llama4 import Llama4TextConfig
from transformers.models.llama4.modeling_llama4 import Llama4TextRotaryEmbedding, apply_rotary_emb

CUDA = "cuda"
HALF = torch.bfloat16


def measure(kernel: str, **sizes) -> None:
    """Three passes of one of the functions below.

    Each ends with an optimizer's step on one number, since vramcast predicts training alone.
    """
    one = nn.Parameter(torch.zeros(1, device=CUDA))
    optimizer = torch.optim.SGD([one], lr=0.1)
    full = globals()[kernel](**sizes)
    for _ in range(3):
        full()
        optimizer.step()


def _random(*shape, dtype=torch.float32, **options):
    return torch.randn(*shape, dtype=dtype, device=CUDA, **options)


def _targets(words: int, count: int):
    return torch.randint(words, (count, 1), device=CUDA).squeeze(1)


def _loss(ask, retain: bool):
    return lambda: ask().backward(retain_graph=retain)


def _layer(layer, x, gradient=None):
    """Of a layer whose graph is kept; the gradient is given, or made for each pass."""

    def full():
        y = layer(x)
        y.backward(torch.randn_like(y) if gradient is None else gradient, retain_graph=True)

    return full


def _with(kept, full):
    """The same, with something that stays alive beside it."""

    def run():
        full()
        return kept

    return run


def cross_entropy(tokens: int, words: int):
    scores, targets = _random(tokens, words, requires_grad=True), _targets(words, tokens)
    return _loss(lambda: nn.CrossEntropyLoss()(scores, targets), retain=False)


def embedding(batch: int, tokens: int, width: int, words: int):
    layer, ligers = (nn.Embedding(words, width).to(CUDA) for _ in range(2))
    ids = torch.randint(0, words, (batch, tokens), device=CUDA)

    def full():
        out = layer(ids)
        out.backward(torch.randn_like(out))

    return _with(ligers, full)


class _AddNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, hidden, residual):
        hidden, residual = hidden.to(torch.float32), residual.to(torch.float32)
        hidden = hidden + residual
        residual = hidden
        variance = hidden.pow(2).mean(-1, keepdim=True)
        hidden = hidden * torch.rsqrt(variance + 1e-6)
        return self.weight * hidden, residual


def fused_add_rms_norm(rows: int, width: int):
    layer = _AddNorm(width).to(CUDA)
    x, r = _random(rows, width), _random(rows, width)
    gradients = torch.randn_like(x), torch.randn_like(r)
    x.requires_grad_(), r.requires_grad_()

    def full():
        y, s = layer(x, r)
        torch.autograd.backward((y, s), gradients)

    return full


def fused_linear_cross_entropy(tokens: int, width: int, words: int):
    layer, ligers = (nn.Linear(width, words, bias=False, dtype=HALF).to(CUDA) for _ in range(2))
    x = _random(tokens, width, dtype=HALF, requires_grad=True)
    targets = _targets(words, tokens)

    def ask():
        logits = layer(x)
        return F.cross_entropy(logits, targets)

    return _with(ligers, _loss(ask, retain=False))


def _divergence(log_q, log_p, reduction: str):
    """Jensen-Shannon's, of logarithms; as a mean over rows, or summed up by hand."""
    log_p, log_q = log_p.to(torch.float), log_q.to(torch.float)
    kl = nn.KLDivLoss(reduction=reduction, log_target=True)
    if reduction == "batchmean":
        mean = torch.lerp(torch.exp(log_p), torch.exp(log_q), 0.5)
        return 0.5 * kl(torch.log(mean), log_p) + 0.5 * kl(torch.log(mean), log_q)
    mean = torch.lerp(torch.exp(log_q), torch.exp(log_p), 0.5)
    loss = 0.5 * kl(torch.log(mean), log_p).sum(-1) + 0.5 * kl(torch.log(mean), log_q).sum(-1)
    return (loss / log_q.shape[0]).sum()


def fused_linear_jsd(tokens: int, width: int, words: int):
    student, teacher = (
        nn.Linear(width, words, bias=False, dtype=HALF, device=CUDA) for _ in range(2)
    )
    x = torch.rand(tokens, width, dtype=HALF, device=CUDA, requires_grad=True)
    other = torch.rand(tokens, width, dtype=HALF, device=CUDA)

    def ask():
        logits, known = student(x), teacher(other)
        guess = torch.log_softmax(logits / 1.0, -1)
        return _divergence(guess, torch.log_softmax(known / 1.0, -1), "batchmean").to(HALF)

    return _loss(ask, retain=False)


def jsd(tokens: int, words: int):
    scores = _random(tokens, words, requires_grad=True).log_softmax(-1)
    target = _random(tokens, words).log_softmax(-1)
    return _layer(functools.partial(_divergence, log_p=target, reduction="none"), scores)


def kl_div(tokens: int, words: int):
    scores = _random(tokens, words, requires_grad=True).log_softmax(-1)
    target = _random(tokens, words).softmax(-1)
    return _loss(lambda: nn.KLDivLoss(reduction="batchmean")(scores, target), retain=True)


def tvd(tokens: int, words: int):
    scores = _random(tokens, words, requires_grad=True).softmax(-1)
    target = _random(tokens, words).softmax(-1)

    def ask():
        distance = torch.abs(scores - target) / 2.0
        return torch.sum(distance) / len(scores)

    return _loss(ask, retain=True)


def gated(batch: int, tokens: int, width: int, inner: int, activation: str):
    """Llama's feed-forward layers: swiglu, geglu, and both beside the tiled ones."""
    sizes = LlamaConfig(hidden_size=width, intermediate_size=inner, hidden_act=activation)
    layer = LlamaMLP(sizes).to(CUDA).to(HALF)
    return _layer(layer, _random(batch, tokens, width, dtype=HALF, requires_grad=True))


def megatron_swiglu(tokens: int, batch: int, inner: int):
    x = _random(tokens, batch, 2 * inner, dtype=HALF, requires_grad=True)

    def full():
        x.grad = None
        gate, up = torch.chunk(x, 2, -1)
        y = F.silu(gate) * up
        y.sum().backward()

    return full


def _norm(layer, *shape, dtype=torch.float32):
    x = _random(*shape, dtype=dtype)
    gradient = torch.randn_like(x)
    return _layer(layer.to(CUDA), x.requires_grad_(), gradient)


def group_norm(batch: int, channels: int, width: int, together: int):
    return _norm(nn.GroupNorm(channels // together, channels), batch, channels, width)


def layer_norm(rows: int, width: int):
    return _norm(nn.LayerNorm(width), rows, width)


def rms_norm(rows: int, width: int):
    return _norm(LlamaRMSNorm(width), rows, width, dtype=HALF)


def sparsemax(rows: int, width: int):
    def layer(x):
        ordered, _ = torch.sort(x, dim=-1, descending=True)
        sums = torch.cumsum(ordered, -1)
        places = torch.arange(1, width + 1, device=CUDA, dtype=x.dtype).view(1, -1)
        bound = 1 + places * ordered
        support = bound > sums
        count = support.sum(-1, keepdim=True).clamp(min=1)
        within = (ordered * support).sum(-1, keepdim=True)
        return torch.clamp(x - (within - 1) / count, min=0)

    x = _random(rows, width)
    gradient = torch.randn_like(x)
    return _layer(layer, x.requires_grad_(), gradient)


def rope(tokens: int, width: int, heads: int, key_heads: int):
    size = width // heads
    sizes = LlamaConfig(hidden_size=width, num_attention_heads=heads, num_key_value_heads=key_heads)
    turn = LlamaRotaryEmbedding(sizes).to(CUDA)
    q, k = (
        _random(1, tokens, count, size, dtype=HALF, requires_grad=True).transpose(1, 2)
        for count in (heads, key_heads)
    )
    gradients = torch.randn_like(q), torch.randn_like(k)
    cos, sin = turn(k, torch.arange(tokens, device=CUDA).unsqueeze(0))

    def full():
        turned = apply_rotary_pos_emb(q, k, cos, sin)
        torch.autograd.grad(turned, (q, k), gradients, allow_unused=True, retain_graph=True)

    return full


def llama4_rope(tokens: int, width: int, heads: int, key_heads: int):
    sizes = Llama4TextConfig(
        hidden_size=width, num_attention_heads=heads, num_key_value_heads=key_heads,
        head_dim=width // heads, max_position_embeddings=tokens,
    )  # fmt: skip
    turn = Llama4TextRotaryEmbedding(sizes).to(CUDA)
    q, k = (
        _random(1, tokens, count, width // heads, dtype=HALF, requires_grad=True)
        for count in (heads, key_heads)
    )
    gradients = torch.randn_like(q), torch.randn_like(k)
    turns = turn(q, torch.arange(tokens, device=CUDA).unsqueeze(0))

    def full():
        turned = apply_rotary_emb(q, k, turns)
        torch.autograd.grad(turned, (q, k), gradients, allow_unused=True, retain_graph=True)

    return full
