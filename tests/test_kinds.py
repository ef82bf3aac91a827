"""Kinds of tensors and optimizers: what is booked is what a count of real tensors says."""

import json

import pytest

from tests.probes.kinds import OPTIMIZERS, SPARSE
from tests.warm import run


@pytest.fixture(scope="module")
def found() -> dict[str, dict]:
    process = run("-m", "tests.probes.kinds")
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_keeps_what_it_keeps_with_numbers(found, name):
    assert found["shapes"][name] == found["real"][name]


@pytest.mark.parametrize("name", ["LBFGS", "LBFGS, strong Wolfe"])
def test_lbfgs_keeps_all_that_it_may(found, name):
    """The history is the same; how long a search along the line takes, numbers decide."""
    shapes, real = found["shapes"][name][-1], found["real"][name][-1]
    assert shapes[0] == real[0]
    assert real[1] <= 1.01 * shapes[1] <= 1.15 * real[1]
    assert any("LBFGS is taken to need all iterations" in note for note in found["notes"])


@pytest.mark.parametrize(
    "name",
    [
        "grad of a functional call",
        "per-sample gradients",
        "Jacobians",
        "flex_attention",
        "nested tensors",
    ],
)
def test_bytes_are_those_of_real_tensors(found, name):
    """But for a few scalars, which are on the host."""
    for shapes, real in zip(found["shapes"][name], found["real"][name], strict=True):
        assert shapes == pytest.approx(real, abs=16)


@pytest.mark.parametrize(
    "name", [*(f"sparse gradients, {name}" for name in SPARSE), "sparse matrices"]
)
def test_sparse_tensors_take_what_their_indices_and_values_do(found, name):
    """But for counts of steps, on the host. What is taken meanwhile differs on the CPU."""
    for (alive, peak), (real, _) in zip(found["shapes"][name], found["real"][name], strict=True):
        assert alive == pytest.approx(real, abs=16)
        assert peak >= alive
    assert any("as many different indices as there may be" in note for note in found["notes"])


def test_compiled_flex_attention_is_one_kernel(found):
    """It keeps its result and a number for each row; scores would take 524,288 bytes."""
    (given, _), (forward, peak), (backward, backward_peak) = found["shapes"][
        "flex_attention, compiled"
    ]
    query, keys, rows, bias = (
        4 * 2 * 4 * 128 * 16,
        4 * 2 * 2 * 128 * 16,
        4 * 2 * 4 * 128,
        4 * 4 * 256,
    )
    scalars = pytest.approx(0, abs=64)
    assert given - (query + 2 * keys + bias) == scalars
    assert forward - given - (query + rows) == scalars
    assert peak - forward - rows == scalars  # each row's largest score, which is not kept
    gradients = query + 2 * keys + bias
    assert backward - forward - (gradients - rows) == scalars
    # `delta`, and the output's gradient, which `sum` has expanded
    assert backward_peak - forward - (gradients + rows + query) == scalars


def test_attention_of_nested_tensors_is_one_kernel(found):
    """It keeps its result of 16 words of 64 numbers in 16 bits, and a number for each row."""
    (given, _), (forward, _), (backward, _) = found["shapes"]["nested attention"]
    words, rows = 2 * 16 * 64, 4 * 4 * 3 * 9
    assert words <= forward - given <= words + rows + 256
    assert backward - forward == pytest.approx(words - rows, abs=rows)
