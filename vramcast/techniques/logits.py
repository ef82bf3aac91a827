"""A loss in chunks: a language model's logits are never there all at once.

The output layer gives a stand-in for its logits. Their cross-entropy is computed for a part of the
tokens at a time, and each part's logits once more in the backward pass.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from vramcast.techniques.weights import NotApplied, within

CHUNKS = 16  # as in docs/combining.md
LARGE = 8192  # outputs, from which on it is a vocabulary


def in_chunks(model: torch.nn.Module) -> None:
    """Have the logits of a model's output layer computed in chunks.

    Raises NotApplied if it has no Linear with LARGE outputs or more.
    """
    layers = [part for part in model.modules() if type(part) is torch.nn.Linear]
    heads = [one for one in layers if one.out_features >= LARGE]
    if not heads:
        raise NotApplied(f"its model has no Linear with {LARGE:,} outputs or more")
    head = heads[-1]
    head.forward = within(_stand_in, head.forward, head=head)


def _stand_in(forward: Callable, inputs: torch.Tensor, *, head: torch.nn.Linear):
    if not (head.training and torch.is_grad_enabled()):
        return forward(inputs)
    return Logits(inputs, forward, head.out_features)


class Logits:
    """In the place of logits [..., words]: the hidden states [..., width] that they come from.

    It can be cut, reshaped, converted, and given to `cross_entropy`; all else raises NotApplied.
    """

    def __init__(self, hidden: torch.Tensor, head: Callable, words: int, dtype=None) -> None:
        self.hidden, self.head, self.words = hidden, head, words
        autocast = torch.is_autocast_enabled("cuda")
        self.precision = torch.get_autocast_dtype("cuda") if autocast else None
        self.dtype, self.device = dtype or self.precision or hidden.dtype, hidden.device

    def _like(self, hidden: torch.Tensor, dtype: torch.dtype | None = None) -> "Logits":
        found = Logits(hidden, self.head, self.words, dtype or self.dtype)
        found.precision = self.precision
        return found

    @property
    def shape(self) -> torch.Size:
        return torch.Size((*self.hidden.shape[:-1], self.words))

    def size(self, dim: int | None = None) -> torch.Size | int:
        return self.shape if dim is None else self.shape[dim]

    def dim(self) -> int:
        return self.hidden.dim()

    def view(self, *shape) -> "Logits":
        shape = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
        rows = self.hidden.numel() // self.hidden.size(-1)
        if shape[-1] == -1 and math.prod(shape[:-1]) == rows:
            shape = (*shape[:-1], self.words)
        if shape[-1] != self.words:
            raise NotApplied("its logits get another shape than [..., words]")
        return self._like(self.hidden.reshape(*shape[:-1], self.hidden.size(-1)))

    reshape = view

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> "Logits":
        if end_dim % self.dim() == self.dim() - 1:
            raise NotApplied("its logits get another shape than [..., words]")
        return self._like(self.hidden.flatten(start_dim, end_dim))

    def __getitem__(self, index) -> "Logits":
        index = index if isinstance(index, tuple) else (index,)
        last = any(one is Ellipsis for one in index[:-1]) or len(index) >= self.dim()
        if last and index[-1] is not Ellipsis and index[-1] != slice(None):
            raise NotApplied("of its logits only some words are used")
        return self._like(self.hidden[index])

    def contiguous(self) -> "Logits":
        return self

    def float(self) -> "Logits":
        return self._like(self.hidden, torch.float32)

    def to(self, *args, **kwargs) -> "Logits":
        words = (*args, *kwargs.values())
        kinds = [word for word in words if isinstance(word, torch.dtype)]
        return self._like(self.hidden, *kinds)

    def __getattr__(self, name: str):
        if name.startswith("__"):  # what Python or a library asks of any object
            raise AttributeError(name)
        raise NotApplied(f"its logits are used otherwise than in a cross-entropy: {name}")

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if function is not F.cross_entropy:
            name = getattr(function, "__name__", "an operator")
            raise NotApplied(f"its logits are used otherwise than in a cross-entropy: {name}")
        return _cross_entropy(*args, **(kwargs or {}))


def _cross_entropy(
    logits: Logits, target: torch.Tensor, weight=None, size_average=None, ignore_index=-100,
    reduce=None, reduction="mean", label_smoothing=0.0,
) -> torch.Tensor:  # fmt: skip
    """The sum or mean of the cross-entropy over the tokens, in chunks of them."""
    if reduction == "none" or weight is not None or logits.dim() != target.dim() + 1:
        raise NotApplied("its cross-entropy is no sum or mean over tokens")
    options = {"ignore_index": ignore_index, "label_smoothing": label_smoothing}
    of_chunk = partial(_loss, logits, options)
    hidden, target = logits.hidden.flatten(0, -2), target.flatten()
    parts = zip(hidden.chunk(CHUNKS), target.chunk(CHUNKS))
    losses = [checkpoint(of_chunk, *part, use_reentrant=False) for part in parts]
    total = torch.stack(losses).sum()
    return total / (target != ignore_index).sum() if reduction == "mean" else total


def _loss(logits: Logits, options: dict, hidden: torch.Tensor, target: torch.Tensor):
    """The sum of the losses of a chunk's tokens."""
    precision = logits.precision
    with torch.autocast("cuda", precision, enabled=precision is not None):
        some = logits.head(hidden)
    return F.cross_entropy(some.to(logits.dtype), target, reduction="sum", **options)
