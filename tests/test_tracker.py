"""The tracker without data against real tensors, and against PyTorch's MemTracker."""

import json

import pytest

from tests.probes.memtracker import LAYERS, SCRIPT
from tests.scripts import TIGHT
from tests.warm import predicted, run

WEIGHTS = 4 * (2 * 64 + 64 * 256 + 256 + 256 * 64 + 64)  # bytes of the probe's parameters


@pytest.fixture(scope="module")
def booked() -> dict[str, dict]:
    found = {}
    for how in ("shapes", "real", "memtracker"):
        process = run("-m", "tests.probes.tracker", how)
        assert process.returncode == 0, process.stderr
        found[how] = json.loads(process.stdout)
    return found


def test_shapes_alone_give_the_trace_of_real_tensors(booked):
    assert len(booked["real"]["trace"]) > 100
    assert booked["shapes"]["trace"] == booked["real"]["trace"]
    assert booked["shapes"]["kinds"] == booked["real"]["kinds"]


def test_the_peak_is_memtrackers(booked):
    assert booked["shapes"]["peak"] == booked["memtracker"]["peak"]


def test_parameters_and_state_are_recognized(booked):
    assert booked["shapes"]["kinds"]["parameters"] == WEIGHTS
    assert booked["shapes"]["kinds"]["optimizer"] == WEIGHTS


@pytest.mark.parametrize(
    ("size", "batch", "precision"),
    [("s", 32, "full"), ("s", 32, "bf16"), ("b", 8, "full"), ("b", 8, "bf16")],
)
def test_whole_models_have_memtrackers_peak(tmp_path, size, batch, precision):
    """But for what a GPU has: cuBLAS's workspaces, and in float32 one more tensor for each layer.

    The memory-efficient kernel (attention.cu) lays its result out as [batch, token, head, width],
    which has to be copied for the next product; the CPU's kernel and flash attention do without.
    """
    process = run("-m", "tests.probes.memtracker", size, str(batch), precision)
    assert process.returncode == 0, process.stderr
    expected = int(process.stdout) + 2 * 8_519_680
    if precision == "full":
        expected += LAYERS * batch * 197 * {"s": 384, "b": 768}[size] * 4
    script = tmp_path / "vit.py"
    script.write_text(SCRIPT.format(size=size, batch=batch, precision=precision, layers=LAYERS))
    row = predicted(script, **TIGHT)
    assert row["allocated_gb"] == pytest.approx(expected / 1e9, rel=0.001)
