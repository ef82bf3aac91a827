"""Kinds of tensors and optimizers: what is booked is what a count of real tensors says."""

import json

import pytest

from tests.probes.kinds import OPTIMIZERS
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


@pytest.mark.parametrize("name", ["grad of a functional call"])
def test_bytes_are_those_of_real_tensors(found, name):
    assert found["shapes"][name] == found["real"][name]
