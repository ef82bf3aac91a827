"""The tracker without data against real tensors, and against PyTorch's MemTracker."""

import json

import pytest

from tests.helpers import run

WEIGHTS = 4 * (2 * 64 + 64 * 256 + 256 + 256 * 64 + 64)  # bytes of the probe's parameters


@pytest.fixture(scope="module")
def booked() -> dict[str, dict]:
    found = {}
    for how in ("shapes", "real", "memtracker"):
        process = run("-m", "tests.probe_tracker", how)
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
