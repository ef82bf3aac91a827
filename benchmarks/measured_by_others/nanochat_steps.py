"""nanochat's base training of October 2025: a compiled GPT of 64 channels a layer, on several GPUs.

The model is that of nanochat/gpt.py at commit ec11d39, the optimizers those of its adamw.py and
muon.py: both share gradients and states out among the ranks. AdamW's whole step is compiled, of
Muon only the orthogonalization. Left out are the texts that the model writes in between, and its
questions: both are short next to a batch.
"""

import os

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

WORDS, HEAD, CAP = 65_536, 128, 15


def normed(x):
    return F.rms_norm(x, (x.size(-1),))


def turned(x, cos, sin):
    """Rotary embeddings of [batch, tokens, heads, size]."""
    first, second = x.split(x.shape[3] // 2, dim=3)
    turned = torch.cat([first * cos + second * sin, first * (-sin) + second * cos], 3)
    return turned.to(x.dtype)


class Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // HEAD
        self.query, self.key, self.value, self.out = (
            nn.Linear(width, width, bias=False) for _ in range(4)
        )

    def forward(self, x, turns):
        shape = (*x.shape[:2], self.heads, HEAD)
        query, key, value = (one(x).view(shape) for one in (self.query, self.key, self.value))
        query, key = turned(query, *turns), turned(key, *turns)
        query, key = normed(query), normed(key)
        query, key, value = (one.transpose(1, 2) for one in (query, key, value))
        found = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.out(found.transpose(1, 2).contiguous().view(*x.shape[:2], -1))


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = Attention(width)
        self.wide = nn.Linear(width, 4 * width, bias=False)
        self.back = nn.Linear(4 * width, width, bias=False)

    def forward(self, x, turns):
        x = x + self.attention(normed(x), turns)
        return x + self.back(F.relu(self.wide(normed(x))).square())


class Gpt(nn.Module):
    """Embeddings in bfloat16, all else in float32; turns for ten times as many tokens."""

    def __init__(self, depth: int, tokens: int) -> None:
        super().__init__()
        width = 64 * depth
        self.words = nn.Embedding(WORDS, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.head = nn.Linear(width, WORDS, bias=False)
        for name in ("cos", "sin"):
            self.register_buffer(name, self.turns(10 * tokens, name), persistent=False)
        self.words.to(dtype=torch.bfloat16)

    def turns(self, tokens: int, name: str):
        """cos or sin of all angles."""
        device = self.words.weight.device
        like = {"dtype": torch.float32, "device": device}
        speeds = 1.0 / 10_000 ** (torch.arange(0, HEAD, 2, **like) / HEAD)
        angles = torch.outer(torch.arange(tokens, **like), speeds)
        return getattr(angles, name)().bfloat16()[None, :, None, :]

    def forward(self, words, targets, reduction: str = "mean"):
        tokens = words.shape[1]
        turns = self.cos[:, :tokens], self.sin[:, :tokens]
        x = normed(self.words(words))
        for block in self.blocks:
            x = block(x, turns)
        guess = self.head(normed(x))
        guess = (CAP * torch.tanh(guess / CAP)).float()
        targets = targets.view(-1)
        return F.cross_entropy(guess.view(-1, WORDS), targets, ignore_index=-1, reduction=reduction)


@torch.compile
def orthogonal(gradient, steps: int):
    """Newton and Schulz's iteration in bfloat16."""
    x = gradient.bfloat16()
    if gradient.size(-2) > gradient.size(-1):
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        square = x @ x.mT
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    if gradient.size(-2) > gradient.size(-1):
        x = x.mT
    return x


class Muon(torch.optim.Optimizer):
    """Of every eight matrices of a shape, each rank steps with one."""

    def __init__(self, parameters: list) -> None:
        groups = []
        for shape in sorted({one.shape for one in parameters}):
            same = [one for one in parameters if one.shape == shape]
            groups.append({"params": same, "padding": torch.zeros_like(same[0])})
        super().__init__(groups, {"lr": 0.02, "momentum": 0.95})

    @torch.no_grad()
    def step(self) -> None:
        rank, ranks = dist.get_rank(), dist.get_world_size()
        scattered, gathered = [], []
        for group in self.param_groups:
            every, padding = group["params"], group["padding"]
            for start in range(0, len(every), ranks):
                own = start + rank
                parts = [one.grad for one in every[start : start + ranks]]
                parts.extend([padding] * (ranks - len(parts)))
                result = every[own].grad if own < len(every) else torch.empty_like(padding)
                work = dist.reduce_scatter(result, parts, op=dist.ReduceOp.AVG, async_op=True)
                scattered.append(work.get_future())
        done = 0
        for group in self.param_groups:
            every, padding = group["params"], group["padding"]
            for start in range(0, len(every), ranks):
                own = start + rank
                scattered[done].wait()
                done += 1
                if own < len(every):
                    one = every[own]
                    gradient, state = one.grad, self.state[one]
                    if "momentum" not in state:
                        state["momentum"] = torch.zeros_like(gradient)
                    momentum = state["momentum"]
                    momentum.lerp_(gradient, 1.0 - group["momentum"])
                    gradient = gradient.lerp_(momentum, group["momentum"])
                    gradient = orthogonal(gradient, steps=5)
                    one.add_(gradient, alpha=-group["lr"])
                source = every[own] if own < len(every) else padding
                results = every[start : start + ranks]
                results.extend(torch.empty_like(padding) for _ in range(ranks - len(results)))
                work = dist.all_gather(results, source, async_op=True)
                gathered.append(work.get_future())
        torch.futures.collect_all(gathered).wait()


class AdamW(torch.optim.Optimizer):
    """Each rank steps with its share of each parameter's rows."""

    def __init__(self, groups: list[dict]) -> None:
        super().__init__(groups, {"betas": (0.8, 0.95), "eps": 1e-10})

    @torch.compile
    @torch.no_grad()
    def step(self) -> None:
        rank, ranks = dist.get_rank(), dist.get_world_size()
        scattered, gathered, shares = [], [], []
        for group in self.param_groups:
            gradient = torch.empty_like(group["params"][-1])
            for one in group["params"]:
                gradient = one.grad
                share = torch.empty_like(gradient[: gradient.shape[0] // ranks])
                work = dist.reduce_scatter_tensor(
                    share, gradient, op=dist.ReduceOp.AVG, async_op=True
                )
                scattered.append(work.get_future())
                shares.append(share)
        done = 0
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for one in group["params"]:
                scattered[done].wait()
                rows = one.shape[0] // ranks
                own = one[rank * rows : (rank + 1) * rows]
                share, state = shares[done], self.state[one]
                if not state:
                    state["step"] = torch.tensor(0, dtype=torch.int64, device=one.device)
                    state["mean"], state["square"] = torch.zeros_like(own), torch.zeros_like(own)
                state["step"] += 1
                state["mean"].mul_(beta1).add_(share, alpha=1 - beta1)
                state["square"].mul_(beta2).addcmul_(share, share, value=1 - beta2)
                bias1, bias2 = 1 - beta1 ** state["step"], 1 - beta2 ** state["step"]
                spread = state["square"].sqrt().add_(group["eps"])
                size = group["lr"] * (torch.sqrt(bias2) / bias1)
                own.add_(other=state["mean"].div(spread).mul_(size), alpha=-1.0)
                done += 1
                gathered.append(dist.all_gather_into_tensor(one, own, async_op=True).get_future())
        torch.futures.collect_all(gathered).wait()


def train(depth: int, batch: int, tokens: int = 2048, together: int = 2**19) -> None:
    """An evaluation and four optimizer steps of `together` tokens on all GPUs."""
    torch.set_float32_matmul_precision("high")
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    torch.cuda.set_device(device)
    dist.init_process_group("nccl", device_id=device)
    dist.barrier()
    amp = torch.amp.autocast(device_type="cuda", dtype=torch.bfloat16)
    lengths = torch.zeros(WORDS, dtype=torch.int32, device=device)  # of each word in bytes
    with torch.device("meta"):
        plain = Gpt(depth, tokens)
    plain.to_empty(device="cuda")
    for parameter in plain.parameters():
        nn.init.normal_(parameter)
    plain.cos, plain.sin = (plain.turns(10 * tokens, name) for name in ("cos", "sin"))
    model = torch.compile(plain, dynamic=False)
    head, words = list(plain.head.parameters()), list(plain.words.parameters())
    optimizers = [
        AdamW([{"params": head, "lr": 0.004}, {"params": words, "lr": 0.2}]),
        Muon(list(plain.blocks.parameters())),
    ]

    def next_batch():
        text = torch.empty(batch * tokens + 1, dtype=torch.int64, pin_memory=True)
        inputs = text[:-1].to(dtype=torch.int32).view(batch, tokens)
        return inputs.to(device, non_blocking=True), text[1:].view(batch, tokens).to(
            device, non_blocking=True
        )

    x, y = next_batch()
    model.eval()
    with torch.no_grad(), amp:
        nats = torch.tensor(0.0, dtype=torch.float32, device=device)
        for _ in range(20):
            words, targets = next_batch()
            losses = model(words, targets, reduction="none").view(-1)
            sizes = lengths[targets.view(-1)]
            nats += (losses * (sizes > 0)).sum()
        nats.item()
        del words, targets, losses, sizes
    model.train()
    accumulated = together // (batch * tokens * dist.get_world_size())
    for _ in range(4):
        for _ in range(accumulated):
            with amp:
                loss = model(x, y)
            last = loss.detach()
            loss = loss / accumulated
            loss.backward()
            x, y = next_batch()
        nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        model.zero_grad(set_to_none=True)
        last.item()
