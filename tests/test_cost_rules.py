"""How operators are counted: the rules on tensors without memory, which stand for a GPU's, by hand.

What whole steps cost is in test_cost.py.
"""

from types import SimpleNamespace

import pytest
import torch
from torch._subclasses import FakeTensorMode

from vramcast import compat
from vramcast.cost import rules
from vramcast.cost.rules import Counts
from vramcast.operators import registry

aten = torch.ops.aten
HALF = torch.float16
ON_GPU = rules._on_gpu


@pytest.fixture(autouse=True)
def _gpu(monkeypatch):
    """Tensors without memory are a GPU's; others are the host's."""

    def on_gpu(value: object) -> bool:
        while isinstance(value, (list, tuple)) and value:
            value = value[0]
        return isinstance(value, torch.Tensor) and value.is_meta

    monkeypatch.setattr(rules, "_on_gpu", on_gpu)


def gpu(*shape: int, dtype=torch.float32) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def count(func, *args: object, **kwargs: object) -> Counts:
    """The counts after this operator, twice, halved: a formula is asked once for some shapes."""
    found, rule = Counts(), rules.rule(func)
    if rule is not None:
        result = func(*args, **kwargs) if func.namespace == "aten" else args[0]
        for _ in range(2):
            rule(found, args, kwargs, result)
    for name in ("kernels", "to_gpu", "to_host", "between", "convolved"):
        setattr(found, name, getattr(found, name) / 2)
    found.operations = {key: value / 2 for key, value in found.operations.items()}
    return found


def test_where_a_tensor_is_is_that_of_the_first():
    """Of lists, too; what is no tensor is nowhere."""
    with FakeTensorMode():
        here, there = torch.empty(3), torch.empty(3, device="cuda")
    for value, on_gpu in (
        (there, True), (here, False), ([[there], here], True), ((here, there), False), (3, False),
        ((), False), (None, False),
    ):  # fmt: skip
        assert ON_GPU(value) == on_gpu


def test_a_product_is_two_operations_for_each_pair():
    found = count(aten.mm.default, gpu(4, 8), gpu(8, 16))
    assert (found.operations, found.kernels) == ({"float32": 2 * 4 * 8 * 16}, 1)
    found = count(aten.mm.default, gpu(4, 8, dtype=HALF), gpu(8, 16, dtype=HALF))
    assert found.operations == {"float16": 2 * 4 * 8 * 16}
    assert count(aten.mm.default, torch.ones(4, 8), torch.ones(8, 16)).operations == {}


def test_shapes_are_told_apart():
    found, rule = Counts(), rules.rule(aten.mm.default)
    for rows in (4, 5, 4):
        args = gpu(rows, 8), gpu(8, 16)
        rule(found, args, {}, aten.mm.default(*args))
    assert found.operations == {"float32": 2 * 13 * 8 * 16}


def test_tf32_is_told_for_products_and_convolutions_apart(monkeypatch):
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    before = products.fp32_precision, convolutions.fp32_precision
    try:
        for one, other in (("tf32", "ieee"), ("ieee", "tf32")):
            products.fp32_precision, convolutions.fp32_precision = one, other
            assert rules._precision(torch.float32, convolution=False).startswith(
                "tf32" if one == "tf32" else "float32"
            )
            assert (rules._precision(torch.float32, convolution=True) == "tf32") == (one != "tf32")
            assert rules._precision(torch.bfloat16, convolution=False) == "bfloat16"
    finally:
        products.fp32_precision, convolutions.fp32_precision = before


def test_convolutions_are_counted_apart_too(monkeypatch):
    monkeypatch.setattr(registry, "of", lambda func: registry.Rules(convolution=True))
    args = gpu(2, 3, 9, 9, dtype=HALF), gpu(8, 3, 3, 3, dtype=HALF), None
    found = count(aten.convolution.default, *args, [1, 1], [0, 0], [1, 1], False, [0, 0], 1)
    assert found.convolved == found.operations["float16"] == 2 * 2 * 8 * 7 * 7 * 3 * 3 * 3


def test_of_some_operators_only_a_share_is_computed(monkeypatch):
    half = registry.Rules(share=lambda given: given["self"].shape[0] / 8)
    monkeypatch.setattr(registry, "of", lambda func: half)
    found = count(aten.mm.default, gpu(4, 8), gpu(8, 16))
    assert found.operations == {"float32": 4 * 8 * 16}
    found = count(aten.addmm.default, gpu(4, 16), gpu(4, 8), gpu(8, 16))  # others by default
    assert found.operations == {"float32": 4 * 8 * 16}


@pytest.mark.parametrize(
    ("func", "args", "kernels"),
    [
        (aten.add.Tensor, (gpu(3), gpu(3)), 1),
        (aten.add.Tensor, (torch.ones(3), torch.ones(3)), 0),
        (aten.cat.default, ([gpu(3), gpu(3)],), 1),
        (aten.view.default, (gpu(3), [3, 1]), 0),
        (aten.t_.default, (gpu(3, 4),), 0),
        (aten.empty_like.default, (gpu(3),), 0),
        (aten._unsafe_view.default, (gpu(3), [3]), 0),
        (aten.zeros_like.default, (gpu(3),), 1),
        (aten.copy_.default, (gpu(3), gpu(3)), 1),
        (aten.copy_.default, (gpu(3), 4), 1),
    ],
)
def test_what_computes_is_one_kernel(func, args, kernels):
    assert count(func, *args).kernels == kernels


@pytest.mark.parametrize(
    ("target", "source", "later", "to_gpu", "to_host"),
    [
        (gpu(10), torch.ones(10), False, 40, 0),
        (torch.ones(10), gpu(10), False, 0, 40),
        (gpu(10, dtype=HALF), torch.ones(10), False, 20, 0),  # in the GPU's type
        (gpu(10, dtype=HALF), torch.ones(10), True, 40, 0),  # in the host's
        (torch.ones(10), gpu(10, dtype=HALF), False, 0, 20),
        (torch.ones(10), gpu(10, dtype=HALF), True, 0, 40),
        (gpu(4, 10), torch.ones(10), False, 160, 0),
        (torch.ones(10), torch.ones(10), False, 0, 0),
    ],
)
def test_a_copy_moves_bytes_over_the_link(target, source, later, to_gpu, to_host):
    """`copy_kernel_cuda` in Copy.cu converts on the GPU, but where the CPU does not wait."""
    for args, kwargs in (((later,), {}), ((), {"non_blocking": later})):
        found, rule = Counts(), rules.rule(aten.copy_.default)
        rule(found, (target, source, *args), kwargs, target)
        assert (found.to_gpu, found.to_host, found.kernels) == (to_gpu, to_host, 0)
    found, rule = Counts(), rules.rule(aten._foreach_copy_.default)
    rule(found, ([target] * 3, [source] * 3, later), {}, None)
    assert (found.to_gpu, found.to_host) == (3 * to_gpu, 3 * to_host)


def test_a_moved_tensor_is_a_copy():
    found, rule = Counts(), rules.rule(aten._to_copy.default)
    rule(found, (torch.ones(10),), {"non_blocking": False}, gpu(10, dtype=HALF))
    assert (found.to_gpu, found.to_host) == (20, 0)


@pytest.mark.parametrize(
    ("name", "sent"), [("all_reduce", 2), ("broadcast", 1), ("all_to_all_single", 0)]
)
def test_a_collective_sends_what_a_ring_sends(monkeypatch, name, sent):
    """Of 4 ranks each sends three quarters of the whole, for a sum twice (nccl-tests)."""
    monkeypatch.setattr(compat, "resolve_group", lambda name: SimpleNamespace(size=lambda: 4))
    func = getattr(torch.ops._c10d_functional, name).default
    names = [argument.name for argument in func._schema.arguments]
    args = [gpu(100), *("group" if one == "group_name" else "other" for one in names[1:])]
    assert count(func, *args).between == sent * 300
    if sent:
        assert count(func, torch.ones(100), *args[1:]).between == 0


def test_a_collective_counts_the_whole_tensor(monkeypatch):
    """It is what a gathering returns, and what a scattering is given."""
    monkeypatch.setattr(compat, "resolve_group", lambda name: SimpleNamespace(size=lambda: 4))
    part, whole = gpu(100), gpu(400)
    for name, given, result in (
        ("all_gather_into_tensor", (part, 4, "group"), whole),
        ("reduce_scatter_tensor", (whole, "sum", 4, "group"), part),
    ):
        found, func = Counts(), getattr(torch.ops._c10d_functional, name).default
        rules.rule(func)(found, given, {}, result)
        assert found.between == 1200
