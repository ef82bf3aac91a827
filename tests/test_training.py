"""What the scripts compute, seen by running them unmodified on a few images."""

import math

import pytest
import torch

from ladder.rungs import ROOT
from rehearsal.weights import FEATURES
from tests.warm import run

FEW, MANY = 11, 43  # of which 10 and 39 are for training
STEPS = 3  # on MANY: 2 batches of 16, and one of 7


@pytest.fixture(scope="module")
def probe(tmp_path_factory):
    """What a script's optimizer was given; each combination of arguments runs once."""
    folder, known = tmp_path_factory.mktemp("probe"), {}

    def probe(script: str, images: int, precision: str = "own") -> dict:
        key = (script, images, precision)
        if key not in known:
            out = folder / f"{len(known)}.pt"
            process = run(
                "-m", "tests.probes.training", script, str(images), precision, str(out),
                DATA_DIR=str(folder), RESULTS_DIR=str(folder),
            )  # fmt: skip
            assert process.returncode == 0, process.stdout + process.stderr
            known[key] = torch.load(out)
        return known[key]

    return probe


def test_fabric_changes_no_number(probe):
    plain = probe("01_pytorch-fp32.py", 80)  # of which 72 are for training: two batches
    fabric = probe("01-2_pytorch-fabric.py", 80)
    assert len(plain["parameters"]) == 2
    for ours, theirs in zip(plain["parameters"], fabric["parameters"], strict=True):
        assert torch.equal(ours, theirs)


def test_bfloat16_parameters_are_bfloat16(probe):
    mixed, true = probe("02-2_bf16-mixed.py", FEW), probe("03_bfloat16.py", FEW)
    assert mixed["dtypes"] == [{torch.float32}]
    assert true["dtypes"] == [{torch.bfloat16}]


def test_gradients_freed_at_once_change_no_number(probe):
    parent = probe("04_lower-batchsize.py", MANY, "32-true")
    own = probe("04-2_free-gradients.py", MANY, "32-true")
    assert len(own["gradients"]) == STEPS
    for ours, theirs in zip(own["gradients"], parent["gradients"], strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(own["final"], parent["final"])


@pytest.mark.parametrize("images", [FEW, MANY])
def test_accumulated_gradient_is_that_of_the_whole_batch(probe, images):
    """In every step: a full window's, and that of the partial one, which is all there is of FEW."""
    whole = probe("04-2_free-gradients.py", images, "32-true")
    parts = probe("05_gradient-accum.py", images, "32-true")
    micro_batches = [4, 4, 2] if images == FEW else [4, 4, 4, 4]
    assert whole["batches"][0] == sum(micro_batches)
    assert parts["batches"][: len(micro_batches)] == micro_batches
    for ours, theirs in zip(parts["gradients"], whole["gradients"], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)


def test_every_window_is_stepped_also_the_last_partial_one(probe):
    parts = probe("05_gradient-accum.py", MANY, "32-true")
    assert sum(parts["batches"]) == 39
    assert parts["batches"][-2:] == [4, 3]
    assert len(parts["gradients"]) == STEPS
    assert not torch.equal(parts["parameters"][-1], parts["parameters"][-2])


def test_schedule_follows_the_cosine_over_the_optimizer_steps(probe):
    rates = probe("06_sgd-with-scheduler.py", MANY)["rates"]
    expected = [0.01 * (1 + math.cos(math.pi * step / STEPS)) / 2 for step in range(STEPS)]
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize(
    "name", ["11-2_selective-checkp", "12_optimizer-in-backward", "14-3_activation-offload"]
)
def test_the_same_numbers_with_less_memory(probe, name):
    """All losses, and the parameters at the end, are those of 11."""
    parent = probe("11-16-under-1gb/11_act-checkp.py", MANY)
    own = probe(f"11-16-under-1gb/{name}.py", MANY)
    assert len(set(parent["losses"])) == STEPS  # one a step
    assert own["losses"] == pytest.approx(parent["losses"], rel=1e-5)
    torch.testing.assert_close(own["final"], parent["final"])
    assert not torch.equal(own["final"], parent["parameters"][0])


def test_the_host_computes_adamws_step(probe, tmp_path):
    """Losses and parameters are those of PyTorch's AdamW in its place."""
    text = (ROOT / "11-16-under-1gb/14-4_optimizer-offload.py").read_text()
    script = tmp_path / "adamw.py"
    usual = "torch.optim.AdamW(model.parameters(), lr=5e-5, fused=True)"
    offloading = "CPUOffloadOptimizer(model.parameters(), lr=5e-5)"
    assert offloading in text
    script.write_text(text.replace(offloading, usual))
    (tmp_path / "local_utilities.py").symlink_to(ROOT / "local_utilities.py")
    usual = probe(str(script), MANY, "32-true")
    own = probe("11-16-under-1gb/14-4_optimizer-offload.py", MANY, "32-true")
    assert own["losses"] == pytest.approx(usual["losses"], rel=1e-5)
    torch.testing.assert_close(own["final"], usual["final"])


def test_the_whole_batchs_gradient_is_the_accumulated_one(probe):
    """In float32; the first step's."""
    own = probe("07-2_whole-batch.py", MANY, "32-true")
    parent = probe("07_init-module.py", MANY, "32-true")
    assert (own["batches"][0], parent["batches"][0]) == (16, 4)
    torch.testing.assert_close(own["gradients"][0], parent["gradients"][0], rtol=1e-3, atol=1e-6)


def test_checkpointing_changes_no_gradient(probe):
    own = probe("11-16-under-1gb/11_act-checkp.py", MANY, "32-true")
    parent = probe("07-2_whole-batch.py", MANY, "32-true")
    assert len(own["gradients"]) == STEPS
    for ours, theirs in zip(own["gradients"], parent["gradients"], strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("name", "rate"), [("12_optimizer-in-backward", 0.01), ("14_adamw-8bit", 5e-5)]
)
def test_the_schedule_counts_batches_also_in_the_backward_pass(probe, name, rate):
    rates = probe(f"11-16-under-1gb/{name}.py", MANY)["rates"]
    each = len(rates) // STEPS  # one step a parameter
    assert each > 20
    expected = [rate * (1 + math.cos(math.pi * step / STEPS)) / 2 for step in range(STEPS)]
    assert rates == pytest.approx([value for value in expected for _ in range(each)], rel=1e-4)


def test_init_module_starts_from_the_same_pretrained_weights(probe):
    """But for the head, which is random, and bfloat16 rounding there is none: the same bytes."""
    own, parent = probe("07_init-module.py", FEW), probe("06_sgd-with-scheduler.py", FEW)
    assert own["dtypes"] == [{torch.bfloat16}]
    head = FEATURES * 10 + 10
    assert torch.equal(own["parameters"][0][:-head], parent["parameters"][0][:-head])
