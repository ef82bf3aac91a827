"""What the scripts compute, seen by running them unmodified on a few images."""

import math

import pytest
import torch

from stand_ins.weights import FEATURES
from tests.helpers import run

FEW, MANY = 11, 114  # of which 10 and 103 are for training: 103 = 6 batches of 16, and one of 7


@pytest.fixture(scope="module")
def probe(tmp_path_factory):
    """What a script's optimizer was given; each combination of arguments runs once."""
    folder, known = tmp_path_factory.mktemp("probe"), {}

    def probe(script: str, images: int, precision: str = "own") -> dict:
        key = (script, images, precision)
        if key not in known:
            out = folder / f"{len(known)}.pt"
            process = run(
                "-m", "tests.probe", script, str(images), precision, str(out),
                DATA_DIR=str(folder), RESULTS_DIR=str(folder),
            )  # fmt: skip
            assert process.returncode == 0, process.stdout + process.stderr
            known[key] = torch.load(out)
        return known[key]

    return probe


def test_fabric_changes_no_number(probe):
    plain = probe("01_pytorch-fp32.py", MANY)
    fabric = probe("01-2_pytorch-fabric.py", MANY)
    assert len(plain["parameters"]) == 2
    for ours, theirs in zip(plain["parameters"], fabric["parameters"], strict=True):
        assert torch.equal(ours, theirs)


def test_bfloat16_parameters_are_bfloat16(probe):
    mixed, true = probe("02-2_bf16-mixed.py", FEW), probe("03_bfloat16.py", FEW)
    assert mixed["dtypes"] == [{torch.float32}]
    assert true["dtypes"] == [{torch.bfloat16}]


@pytest.mark.parametrize("images", [FEW, MANY])
def test_accumulated_gradient_is_that_of_the_whole_batch(probe, images):
    """The first step's gradient: with FEW that of a partial window, with MANY of a full one."""
    whole = probe("04_lower-batchsize.py", images, "32-true")
    parts = probe("05_gradient-accum.py", images, "32-true")
    micro_batches = [4, 4, 2] if images == FEW else [4, 4, 4, 4]
    assert whole["batches"][0] == sum(micro_batches)
    assert parts["batches"][: len(micro_batches)] == micro_batches
    torch.testing.assert_close(parts["gradients"][0], whole["gradients"][0], rtol=1e-3, atol=1e-6)


def test_every_window_is_stepped_also_the_last_partial_one(probe):
    parts = probe("05_gradient-accum.py", MANY, "32-true")
    assert sum(parts["batches"]) == 103
    assert parts["batches"][-2:] == [4, 3]
    assert len(parts["gradients"]) == 7
    assert not torch.equal(parts["parameters"][-1], parts["parameters"][-2])


def test_schedule_follows_the_cosine_over_the_optimizer_steps(probe):
    rates = probe("06_sgd-with-scheduler.py", MANY)["rates"]
    expected = [0.01 * (1 + math.cos(math.pi * step / 7)) / 2 for step in range(7)]
    assert rates == pytest.approx(expected)


def test_init_module_starts_from_the_same_pretrained_weights(probe):
    """But for the head, which is random, and bfloat16 rounding there is none: the same bytes."""
    own, parent = probe("07_init-module.py", FEW), probe("06_sgd-with-scheduler.py", FEW)
    assert own["dtypes"] == [{torch.bfloat16}]
    head = FEATURES * 10 + 10
    assert torch.equal(own["parameters"][0][:-head], parent["parameters"][0][:-head])
