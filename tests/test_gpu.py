"""The GPU without data: what is booked there is what the rules worked by hand say."""

import json

import pytest

from tests.warm import run

WEIGHTS = 4 * 2 * 256 * 1024  # bytes of the probe's two float32 matrices


@pytest.mark.parametrize(("precision", "dtype"), [("full", "float32"), ("mixed", "float16")])
def test_a_small_model_trains(precision, dtype):
    process = run("-m", "tests.probes.gpu", precision)
    assert process.returncode == 0, process.stderr
    found = json.loads(process.stdout)
    assert found["sums"]["parameters"] == WEIGHTS
    assert found["sums"]["gradients"] == WEIGHTS
    assert WEIGHTS * 2 <= found["sums"]["optimizer"] < WEIGHTS * 2 + 4096
    assert found["output"] == [f"torch.{dtype}"] * 3
    assert found["loss"] == 0
    # Adam's temporaries (one list) come on top of parameters, gradients and averages
    assert found["peak"] >= 5 * WEIGHTS


def test_remembered_results_are_those_of_the_first_call():
    """The first calls go through FakeTensorMode's rules, the later ones do not."""
    process = run("-m", "tests.probes.remembered")
    assert process.returncode == 0, process.stderr
    found = json.loads(process.stdout)
    assert found["remembered"] > 100
    for name, rounds in found["found"].items():
        assert all(results == rounds[0] for results in rounds), name
