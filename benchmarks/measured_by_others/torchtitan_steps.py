"""torchtitan's Llama 3 8B at the end of 2024: FSDP2 in bfloat16 with selective checkpointing.

The model is torchtitan's (torchtitan/models/llama/model.py at commit 9dec370): rotary embeddings
on complex numbers, keys and values repeated for their group of queries. `train` is its train.py.

PyTorch prefers cuDNN's attention from cuDNN 9.9 on (`check_prefer_cudnn_attention` in its
sdp_utils.cpp), which is newer than the measurement; so FlashAttention computed it, whose results
the checkpointing keeps.

Clipping is left out: it takes one number a gradient. So are random numbers for the parameters,
which are written in place.
"""

import os
from collections import defaultdict

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.distributed._composable.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts

WIDTH, INNER, BLOCKS, HEADS, KEY_HEADS, HEAD = 4096, 14_336, 32, 32, 8, 128
WORDS, TOKENS = 128_256, 8192

aten = torch.ops.aten
SAVED = {
    aten.mm.default,
    aten._scaled_dot_product_efficient_attention.default,
    aten._scaled_dot_product_flash_attention.default,
    torch.ops._c10d_functional.reduce_scatter_tensor.default,
    aten.abs.default,
    aten.max.default,
}


class Norm(nn.Module):
    """Its "rmsnorm": in float32, and back."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x):
        wide = x.float()
        normed = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-5)
        return normed.type_as(x) * self.weight


def turned(x, turns):
    """Rotary embeddings of [batch, tokens, heads, size]."""
    pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * turns.view(1, TOKENS, 1, -1)).flatten(3).type_as(x)


def repeated(x):
    """Each head of keys or values once for every query head of its group."""
    times = HEADS // KEY_HEADS
    spread = x.unsqueeze(3).expand(*x.shape[:3], times, HEAD)
    return spread.reshape(*x.shape[:2], HEADS, HEAD)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wq = nn.Linear(WIDTH, HEADS * HEAD, bias=False)
        self.wk = nn.Linear(WIDTH, KEY_HEADS * HEAD, bias=False)
        self.wv = nn.Linear(WIDTH, KEY_HEADS * HEAD, bias=False)
        self.wo = nn.Linear(HEADS * HEAD, WIDTH, bias=False)

    def forward(self, x, turns):
        query, key, value = (
            layer(x).view(*x.shape[:2], -1, HEAD) for layer in (self.wq, self.wk, self.wv)
        )
        query, key = turned(query, turns), turned(key, turns)
        query, key, value = (one.transpose(1, 2) for one in (query, repeated(key), repeated(value)))
        out = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.wo(out.transpose(1, 2).contiguous().view(*x.shape[:2], -1))


class FeedForward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w1 = nn.Linear(WIDTH, INNER, bias=False)
        self.w2 = nn.Linear(INNER, WIDTH, bias=False)
        self.w3 = nn.Linear(WIDTH, INNER, bias=False)

    def forward(self, x):
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention, self.feed_forward = Attention(), FeedForward()
        self.attention_norm, self.ffn_norm = Norm(), Norm()

    def forward(self, x, turns):
        hidden = x + self.attention(self.attention_norm(x), turns)
        return hidden + self.feed_forward(self.ffn_norm(hidden))


class Llama(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(WORDS, WIDTH)
        self.register_buffer("turns", torch.zeros(TOKENS, HEAD // 2, dtype=torch.complex64))
        self.blocks = nn.ModuleList(Block() for _ in range(BLOCKS))
        self.norm = Norm()
        self.output = nn.Linear(WIDTH, WORDS, bias=False)

    def forward(self, words):
        hidden = self.embeddings(words)
        for block in self.blocks:
            hidden = block(hidden, self.turns)
        return self.output(self.norm(hidden))


def _contexts():
    """Keeps the results of costly operators, but of every second product only."""
    products = defaultdict(int)

    def policy(context, operator, *args, **kwargs):
        if operator == aten.mm.default:
            products[context.is_recompute] += 1
            if products[context.is_recompute] % 2 == 0:
                return CheckpointPolicy.PREFER_RECOMPUTE
        kept = operator in SAVED
        return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE

    return create_selective_checkpoint_contexts(policy)


def train(batch: int, compiled: bool = False) -> None:
    """Four steps, on as many GPUs as torchrun started. The loss is read after the first alone.

    `compiled`: each block by itself, as train.py does it (`apply_compile` in parallelize_llama.py),
    between checkpointing and FSDP2. The loss is never compiled.
    """
    torch.backends.cuda.enable_cudnn_sdp(False)
    dist.init_process_group("nccl")
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    mesh = dist.init_device_mesh("cuda", (dist.get_world_size(),))
    with torch.device("meta"):
        model = Llama()
    for place, block in enumerate(model.blocks):
        model.blocks[place] = checkpoint_wrapper(
            block, context_fn=_contexts, preserve_rng_state=False
        )
        if compiled:
            model.blocks[place] = torch.compile(model.blocks[place], fullgraph=True)
    how = {"mesh": mesh, "mp_policy": MixedPrecisionPolicy(torch.bfloat16, torch.float32)}
    for place, block in enumerate(model.blocks):
        fully_shard(block, **how, reshard_after_forward=place < BLOCKS - 1)
    fully_shard(model, **how)
    model.to_empty(device="cuda")
    with torch.no_grad():
        for parameter in model.parameters():
            nn.init.ones_(parameter)
    model.train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=False, foreach=True
    )
    for step in range(1, 5):
        words = torch.randint(WORDS, (batch, TOKENS), device="cpu").to("cuda")
        labels = torch.randint(WORDS, (batch, TOKENS), device="cpu").to("cuda")
        optimizer.zero_grad()
        guess = model(words)
        loss = F.cross_entropy(guess.flatten(0, 1).float(), labels.flatten(0, 1))
        del guess
        loss.backward()
        optimizer.step()
        if step == 1:  # and then after each tenth
            loss.item()
