"""The network that `benchmarks.pairs` trains, its batches, and the numbers of its training."""

import torch
import torch.nn.functional as F
from torch import nn

WIDTH, BATCH, MICRO, STEPS, RANK = 128, 16, 4, 6, 16
# AdamW's is below bfloat16's precision; Adafactor's is relative to the weights
RATES = {"SGD": 0.05, "8 bits": 1e-4, "Adafactor": 1e-2, "bf16 states": 1e-4}
LOW_RANK = {"LoRA", "QLoRA"}
COPIED = {"DDP", "ZeRO-1"}  # with these, each rank has the whole model
MOMENTUM, DECAY, BETAS, EPS, LARGEST_NORM = 0.9, 0.01, (0.9, 0.999), 1e-8, 0.5
SHORT_BETAS = (0.9, 0.95)  # with which bfloat16 can hold the second moment: see 02-3


class Block(nn.Module):
    """Two layers with a residual connection around them."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.up, self.down = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        return x + self.down(F.gelu(self.up(self.norm(x))))


class Network(nn.Module):
    """Ten classes from [B, WIDTH]. `boost` enlarges the gradient of one number of `shift`.

    If `shift` is sharded, only one rank has this number.
    """

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(Block(), Block())
        self.shift = nn.Parameter(torch.zeros(10))
        self.head = nn.Linear(WIDTH, 10)

    def forward(self, x, boost: float):
        return self.head(self.blocks(x)) + boost * F.one_hot(torch.tensor(0), 10) * self.shift


def network() -> Network:
    """The same network each time."""
    torch.manual_seed(123)
    return Network()


def batches(on: set[str]) -> list[tuple]:
    """Images, labels, and a factor: with a scaler, it makes one gradient overflow once."""
    generator = torch.Generator().manual_seed(123)
    return [
        (
            torch.randn(BATCH, WIDTH, generator=generator),
            torch.randint(10, (BATCH,), generator=generator),
            1e38 if "scaler" in on and step == 1 else 0.0,
        )
        for step in range(STEPS)
    ]


def flat(tensors) -> torch.Tensor:
    return torch.cat([tensor.detach().float().flatten() for tensor in tensors])


def matrices(model: Network) -> list[str]:
    """The names of the blocks' weight matrices."""
    return [name for name, p in network().named_parameters() if "blocks" in name and p.dim() == 2]


def trained(name: str, on: set[str]) -> bool:
    """Whether the parameter of this name is trained: with frozen blocks, the first block is not."""
    return "frozen blocks" not in on or not name.startswith("blocks.0.")


def factors(weight: torch.Tensor) -> list[nn.Parameter]:
    """a [RANK, inputs] and b [outputs, RANK]; neither is zero, so both train from the start."""
    outputs, inputs = weight.shape
    return [
        nn.Parameter(torch.randn(shape, device="cpu").to(weight.dtype) / RANK)
        for shape in ((RANK, inputs), (outputs, RANK))
    ]


def optimizer_of(on: set[str]) -> str:
    """The name of the optimizer that trains. Raises ValueError if two are asked for."""
    named = [name for name in RATES if name in on]
    if len(named) > 1:
        raise ValueError("two optimizers for the same parameters")
    return named[0] if named else "SGD"
