"""Kinds of tensors and optimizers: print how many bytes are alive at some points, as JSON.

First on the CPU, with numbers, and then on the GPU without data: see test_kinds.py. cuBLAS's
workspaces are left out.
"""

import functools
import gc
import json
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from vramcast import compat, gpus
from vramcast.device import compiler
from vramcast.device import mode as gpu
from vramcast.memory.tracker import Tracker

CUBLAS = 8_519_680  # bytes
KINDS: dict[str, Callable] = {}  # each yields where bytes are counted
OPTIMIZERS = {
    **{name: {} for name in (
        "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "Adadelta", "Adagrad", "ASGD", "Rprop",
        "RMSprop", "SGD", "Adafactor", "Muon",
    )},
    "Adam, amsgrad": {"amsgrad": True},
    "RMSprop, centered": {"centered": True, "momentum": 0.9},
    "SGD, momentum": {"momentum": 0.9},
    "SGD, fused": {"fused": True, "momentum": 0.9},
    "Adam, fused": {"fused": True},
    "Adagrad, fused": {"fused": True},
    "NAdam, one by one": {"foreach": False},
    "RAdam, one by one": {"foreach": False},
}  # fmt: skip


def kind(name: str) -> Callable:
    return lambda function: KINDS.setdefault(name, function)


class Book(TorchDispatchMode):
    """Book the results of real operators."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if any(one.__name__ == "NestedTensor" for one in types):
            return NotImplemented  # its parts are to be booked
        result = func(*args, **(kwargs or {}))
        tracker.book(result, func, args)
        return result


def dense(function: Callable) -> Callable:
    """What flex_attention does with real tensors where it is not compiled, booked."""

    def run_dense(mode, *args):
        with mode:
            return function(*args)

    return run_dense


def optimizer(name, options, device):
    """Three steps with an optimizer of torch.optim."""
    net = nn.Sequential(*(nn.Linear(32, 64, bias=False), nn.Linear(64, 16, bias=False))).to(device)
    taken = getattr(torch.optim, name.partition(",")[0])(net.parameters(), **options)
    inputs = torch.ones(8, 32).to(device)
    for _ in range(3):
        taken.zero_grad()
        net(inputs).square().mean().backward()
        taken.step()
    return [
        [key, [*value.shape, str(value.dtype)] if isinstance(value, torch.Tensor) else value]
        for parameter in net.parameters()
        for key, value in sorted(taken.state[parameter].items())
    ]


def _lbfgs(device, search):
    net = nn.Sequential(nn.Linear(50, 50), nn.Tanh(), nn.Linear(50, 50)).to(device)
    x, y = torch.randn(8, 50).to(device), torch.randn(8, 50).to(device)
    taken = torch.optim.LBFGS(
        net.parameters(), lr=0.1, max_iter=8, history_size=20, line_search_fn=search
    )

    def closure():
        taken.zero_grad()
        loss = F.mse_loss(net(x), y)
        loss.backward()
        return loss

    for _ in range(8):
        taken.step(closure)
        yield


@kind("LBFGS")
def lbfgs(device):
    yield from _lbfgs(device, None)


@kind("LBFGS, strong Wolfe")
def lbfgs_with_line_search(device):
    yield from _lbfgs(device, "strong_wolfe")


@kind("grad of a functional call")
def functional(device):
    net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64)).to(device)
    weights = dict(net.named_parameters())
    for _ in range(4):
        x = torch.randn(16, 64).to(device)
        loss = torch.func.grad(
            lambda w, x: torch.func.functional_call(net, w, (x,)).square().mean()
        )
        grads = loss(weights, x)
        weights = {key: weights[key] - 0.1 * grads[key] for key in weights}
        yield


@kind("per-sample gradients")
def per_sample(device):
    net = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4)).to(device)
    taken = torch.optim.SGD(net.parameters(), lr=0.1)

    def loss(given, x, y):
        return F.cross_entropy(torch.func.functional_call(net, given, (x[None],)), y[None])

    each = torch.func.vmap(torch.func.grad_and_value(loss), in_dims=(None, 0, 0))
    x, y = torch.ones(8, 16).to(device), torch.ones(8, dtype=torch.long).to(device)
    for _ in range(2):
        grads, _ = each({key: one.detach() for key, one in net.named_parameters()}, x, y)
        yield
        for key, one in net.named_parameters():
            one.grad = grads[key].mean(0)
        taken.step()
        yield


@kind("Jacobians")
def jacobians(device):
    x = torch.ones(8, 16).to(device)
    kept = [torch.func.jacrev(torch.sin)(x)]
    yield
    kept.append(torch.func.jvp(torch.sin, (x,), (x,)))
    yield
    kept.append(torch.func.vjp(torch.exp, x))
    yield
    kept.append(kept[-1][1](x))
    yield


SPARSE = {
    "SparseAdam": lambda given: torch.optim.SparseAdam(given),
    "SGD": lambda given: torch.optim.SGD(given, lr=0.1),
    "Adagrad": lambda given: torch.optim.Adagrad(given),
}


def sparse_gradients(device, make):
    """Two batches for a step, none of which has a word twice."""
    table = nn.Embedding(100, 16, sparse=True).to(device)
    bag = nn.EmbeddingBag(100, 16, sparse=True, mode="sum").to(device)
    taken = make([table.weight, bag.weight])
    words = torch.arange(24).to(device)
    for _ in range(3):
        taken.zero_grad()
        table(words).square().mean().backward()
        yield
        (table(words[:10]).mean() + bag(words.view(6, 4)).mean()).backward()
        yield
        taken.step()
        yield


for name, make in SPARSE.items():
    kind(f"sparse gradients, {name}")(functools.partial(sparse_gradients, make=make))


@kind("sparse matrices")
def sparse_matrices(device):
    places = torch.stack([torch.arange(40), torch.arange(40) % 30]).to(device)
    matrix = torch.sparse_coo_tensor(places, torch.ones(40).to(device), (40, 30))
    yield
    kept = [matrix.coalesce()]
    yield
    weight = nn.Parameter(torch.ones(30, 16).to(device))
    kept.append(torch.sparse.mm(kept[0], weight))
    yield
    kept[-1].sum().backward()
    yield
    kept.append(matrix + kept[0])
    yield
    kept.append(matrix.t())
    yield
    kept.append(matrix.to_dense())
    yield
    kept += [kept[0].to_sparse_csr()]
    yield
    kept.append(kept[-1] @ weight)
    yield
    values = nn.Parameter(kept[0].detach() * 2)
    torch.sparse.mm(values, weight.detach()).sum().backward()
    yield
    kept.append(torch.sparse.softmax(kept[0], 1))
    yield
    kept.append(torch.ones(40, 30).to(device).to_sparse())
    yield


def nested(device):
    """A nested tensor of 16 words, through a layer."""
    words = [torch.ones(length, 64).to(device) for length in (5, 9, 2)]
    made = torch.nested.nested_tensor(words, layout=torch.jagged, device=device)
    layer = nn.Linear(64, 64).to(device)
    return layer(made), layer


@kind("nested tensors")
def nested_tensors(device):
    made, layer = nested(device)
    yield
    kept = [F.gelu(made) + made, nn.LayerNorm(64).to(device)(made)]
    yield
    kept.append(made.to_padded_tensor(0.0))
    assert kept[-1].shape == (3, 9, 64)
    yield
    assert [len(one) for one in made.unbind()] == [5, 9, 2]
    kept[-1].square().mean().backward()
    yield
    assert layer.weight.grad.shape == (64, 64)


@kind("nested attention")
def nested_attention(device):
    if device == "cuda":  # the CPU has no such kernel
        unknown = torch.nested.nested_tensor_from_jagged(
            torch.ones(16, 64, device=device), torch.tensor([0, 5, 11]).to(device).cumsum(0)
        )
        with pytest.raises(compat.DynamicOutputShapeException):
            unknown.unbind()
        made, _ = nested(device)
        heads = made.half().detach().unflatten(-1, [4, 16]).transpose(1, 2).requires_grad_()
        yield
        output = F.scaled_dot_product_attention(heads, heads, heads)
        yield
        output.transpose(1, 2).values().sum().backward()
        yield


def flex(device, attention):
    """Queries of 4 heads that share 2, of float32, with a bias that is learned."""
    from torch.nn.attention.flex_attention import create_block_mask

    query, key, value = (
        torch.ones(2, heads, 128, 16, device=device, requires_grad=True) for heads in (4, 2, 2)
    )
    bias = torch.ones(4, 256, device=device, requires_grad=True)
    mask = create_block_mask(lambda b, h, i, j: i >= j, None, None, 128, 128, device)
    yield
    output = attention(query, key, value, lambda s, b, h, i, j: s + bias[h, i - j + 128], mask)
    yield
    output.sum().backward()
    yield
    return bias.grad


@kind("flex_attention")
def flex_eager(device):
    def attention(query, key, value, score_mod, mask):
        options = {"BACKEND": "AUTO"}
        return compat.flex(query, key, value, score_mod, mask.as_tuple(), 0.25, options)[0]

    yield from flex(device, attention)


@kind("flex_attention, compiled")
def flex_compiled(device):
    from torch.nn.attention.flex_attention import flex_attention

    if device == "cuda":  # the CPU's has no backward pass
        attention = torch.compile(flex_attention)
        gradient = yield from flex(device, lambda *args: attention(*args, enable_gqa=True))
        assert gradient.shape == (4, 256)


def run(place: str, sees: Callable) -> dict:
    """The states of all optimizers; and for each kind, (bytes alive, and their peak so far)."""
    found = {name: optimizer(name, options, place) for name, options in OPTIMIZERS.items()}
    for name, steps in KINDS.items():
        gc.collect()
        sees.alive = sees.peak = 0
        torch.manual_seed(0)
        found[name] = [(sees.alive, sees.peak) for _ in steps(place)]
    return found


class Sees:
    """Counts the bytes on a device."""

    alive = peak = 0

    def __init__(self, place: str) -> None:
        self.place = place

    def __call__(self, what, storage, other) -> None:
        if what in ("allocate", "free") and storage.size != CUBLAS:
            here = storage.device == self.place
            self.alive += storage.size * here * (1 if what == "allocate" else -1)
            self.peak = max(self.peak, self.alive)


if __name__ == "__main__":
    compat.flex.python_key_table[Book] = dense(compat.flex_dense)
    compat.flex_backward.python_key_table[Book] = dense(compat.flex_dense_backward)
    sees = Sees("cpu")
    tracker, notes = Tracker(sees), []
    with Book():
        real = run("cpu", sees)
    sees = Sees("cuda")
    tracker = Tracker(sees)
    tracker.install()
    torch.compile = functools.partial(compiler.compile_nothing, notes)
    with gpu.install(tracker, gpus.DEFAULT, 1, notes):
        shapes = run("cuda", sees)
    print(json.dumps({"real": real, "shapes": shapes, "notes": sorted(set(notes))}))
