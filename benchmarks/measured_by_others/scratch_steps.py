"""LLMs-from-scratch's GPT-2 of 124 million parameters, before and after each of its speed-ups.

A step has the operators of the repository's ch05/10_llm-training-speed (00_orig.py and
01_opt_single_gpu.py): written out where they are written out there, PyTorch's classes where those
are used. Old gradients are freed at the beginning of a step; a batch is evaluated after the first.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

TOKENS, WIDTH, HEADS, LAYERS, DROPOUT = 1024, 768, 12, 12, 0.1


class Norm(nn.Module):
    """Layer norm by single operators."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.ones(WIDTH)), nn.Parameter(torch.zeros(WIDTH))

    def forward(self, x):
        mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
        return self.scale * ((x - mean) / torch.sqrt(variance + 1e-5)) + self.shift


class Gelu(nn.Module):
    """GELU by its approximation with tanh, in single operators."""

    def forward(self, x):
        inner = torch.tensor(math.sqrt(2 / math.pi)) * (x + 0.044715 * torch.pow(x, 3))
        return 0.5 * x * (1 + torch.tanh(inner))


class Attention(nn.Module):
    """Attention with all scores in memory; `kept`: the mask is a buffer, in float32."""

    def __init__(self, kept: bool) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(3))
        self.out, self.dropout = nn.Linear(WIDTH, WIDTH), nn.Dropout(DROPOUT)
        mask = torch.triu(torch.ones(TOKENS, TOKENS), diagonal=1) if kept else None
        self.register_buffer("mask", mask)

    def forward(self, x):
        batch, tokens, _ = x.shape
        key, query, value = (
            part(x).view(batch, tokens, HEADS, -1).transpose(1, 2)
            for part in (self.key, self.query, self.value)
        )
        scores = query @ key.transpose(2, 3)
        mask = self.mask
        if mask is None:
            mask = torch.triu(torch.ones(tokens, tokens, device=x.device), diagonal=1)
        scores.masked_fill_(mask.bool(), -torch.inf)
        shares = self.dropout(torch.softmax(scores / key.shape[-1] ** 0.5, dim=-1))
        return self.out((shares @ value).transpose(1, 2).reshape(batch, tokens, WIDTH))


class Fused(nn.Module):
    """Attention by PyTorch's function."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        batch, tokens, _ = x.shape
        query, key, value = self.qkv(x).view(batch, tokens, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        dropout = DROPOUT if self.training else 0.0
        found = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=True)
        return self.out(found.transpose(1, 2).contiguous().view(batch, tokens, WIDTH))


class Block(nn.Module):
    """Attention and two linear layers, each with a residual connection."""

    def __init__(self, attention: nn.Module, classes: bool) -> None:
        super().__init__()
        self.attention = attention
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) if classes else Norm() for _ in range(2))
        gelu = nn.GELU(approximate="tanh") if classes else Gelu()
        self.linear = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), gelu, nn.Linear(4 * WIDTH, WIDTH))
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x):
        x = self.dropout(self.attention(self.norms[0](x))) + x
        return self.dropout(self.linear(self.norms[1](x))) + x


class Gpt(nn.Module):
    """The model; see `train` for the options."""

    def __init__(self, words: int, attention: str, classes: bool) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(words, WIDTH), nn.Embedding(TOKENS, WIDTH)
        self.dropout = nn.Dropout(DROPOUT)
        kinds = {"mask kept": lambda: Attention(True), "mask made": lambda: Attention(False)}
        kinds["flash"] = Fused
        self.blocks = nn.Sequential(*(Block(kinds[attention](), classes) for _ in range(LAYERS)))
        self.norm = nn.LayerNorm(WIDTH) if classes else Norm()
        self.head = nn.Linear(WIDTH, words, bias=False)

    def forward(self, ids):
        places = self.places(torch.arange(ids.shape[1], device=ids.device))
        return self.head(self.norm(self.blocks(self.dropout(self.words(ids) + places))))


def train(
    batch: int = 8, words: int = 50_257, attention: str = "mask made", classes: bool = False,
    half: bool = False, fused: bool = True, compiled: bool = False, parallel: bool = False,
) -> None:  # fmt: skip
    """Four optimizer steps. `words`: of the vocabulary; `parallel`: by DistributedDataParallel."""
    if parallel:
        torch.distributed.init_process_group("nccl")
    model = Gpt(words, attention, classes)
    if compiled:
        model = torch.compile(model)
    model.to("cuda")
    if half:
        model.to(torch.bfloat16)
    if parallel:
        model = nn.parallel.DistributedDataParallel(model, device_ids=[0])
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4, weight_decay=0.1, fused=fused)

    def loss_of_batch():
        ids, targets = (torch.zeros(batch, TOKENS, dtype=torch.long).to("cuda") for _ in range(2))
        return F.cross_entropy(model(ids).flatten(0, 1), targets.flatten())

    for step in range(4):
        optimizer.zero_grad()
        loss_of_batch().backward()
        optimizer.step()
        if step == 0:
            model.eval()
            with torch.no_grad():
                loss_of_batch()
            model.train()
