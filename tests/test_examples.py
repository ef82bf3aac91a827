"""The examples on docs/out-of-memory.md and docs/your-model.md are as they are predicted."""

import pytest

from ladder import examples
from ladder.rows import by_script
from ladder.rungs import ROOT
from tests.rows_anew import rows_anew

PAIRS = [tuple(path.relative_to(ROOT).as_posix() for path in both) for both in examples.pairs()]
SCRIPTS = [script for both in PAIRS for script in both]
RECORDED = by_script(examples.RESULTS)


@pytest.fixture(scope="module")
def predicted(tmp_path_factory) -> dict[str, dict]:
    folder = tmp_path_factory.mktemp("examples")
    command = ("-m", "ladder.examples")
    return rows_anew("predicted", SCRIPTS, folder, *command, recorded=examples.RESULTS)


def test_the_record_is_what_is_predicted(predicted):
    assert list(predicted) == SCRIPTS
    for script, row in predicted.items():
        for key in ("reserved_gb", "allocated_gb", "breakdown_gb"):
            assert row[key] == pytest.approx(RECORDED[script][key], rel=1e-3), script


def pair(predicted, name: str) -> tuple[dict, dict]:
    """An example's row, and that of its changed script."""
    return predicted[f"examples/{name}.py"], predicted[f"examples/{name}_after.py"]


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_what_is_changed_helps(predicted, before, after):
    assert predicted[after]["reserved_gb"] < 0.85 * predicted[before]["reserved_gb"]
    lines = [len((ROOT / script).read_text().splitlines()) for script in (before, after)]
    assert max(lines) <= 30


def test_each_example_shows_the_cause_that_it_names(predicted):
    before, after = pair(predicted, "out_of_memory/first_step")
    assert before["peak_phase"] == "optimizer step" != after["peak_phase"]
    before, after = pair(predicted, "out_of_memory/fragmentation")
    assert before["reserved_gb"] > 1.5 * before["allocated_gb"]
    assert after["reserved_gb"] < 1.05 * after["allocated_gb"]
    before, after = pair(predicted, "out_of_memory/lora_alone")
    assert before["breakdown_gb"]["optimizer"] < 0.05 < before["breakdown_gb"]["activations"] / 100
    assert after["breakdown_gb"]["activations"] < 0.2 * before["breakdown_gb"]["activations"]
    before, after = pair(predicted, "out_of_memory/optimizer_first")
    assert before["breakdown_gb"]["optimizer"] == 0  # as nothing is trained
    assert before["breakdown_gb"]["parameters"] > 4 * after["breakdown_gb"]["parameters"]
    before, after = pair(predicted, "out_of_memory/growing_loss")
    assert after["breakdown_gb"]["activations"] < 0.01 < before["breakdown_gb"]["activations"] / 100
    before, after = pair(predicted, "out_of_memory/kept_outputs")
    outputs = 30 * 16 * 21 * 224 * 224 * 4 / 1e9
    assert before["allocated_gb"] > 2 * outputs  # each of them, and joined
    assert after["allocated_gb"] < outputs
