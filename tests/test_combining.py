"""docs/combining.md: every pair is tried again, and what is said to save nothing is, too.

The benchmarks are imported where they are used, since they take seconds to import.
"""

import json

import pytest

from ladder.pages.combining import NOTES
from ladder.rungs import ROOT
from tests.rows_anew import file_anew

TRIED = json.loads((ROOT / "results" / "combining.json").read_text())
CELLS = {tuple(cell["pair"]): cell for cell in TRIED["pairs"]}


@pytest.fixture(scope="module")
def again(tmp_path_factory) -> dict[tuple, dict]:
    """All pairs, tried anew if anything has changed that they are made from."""
    found = file_anew("combining", tmp_path_factory.mktemp("pairs"), "-m", "benchmarks.pairs")
    return {tuple(cell["pair"]): cell for cell in found["pairs"]}


def test_all_pairs_are_recorded():
    from benchmarks import pairs

    assert list(CELLS) == list(pairs.PAIRS)


@pytest.mark.parametrize("pair", CELLS, ids=" × ".join)
def test_the_matrix_says_what_happens(again, pair):
    assert again[pair]["verdict"] == CELLS[pair]["verdict"]


def test_right_and_wrong_lie_far_apart(again):
    """So that no verdict hangs on the limits in `CLOSE`."""
    for cell in again.values():
        if cell["verdict"] == "works":
            assert cell["distance"] <= 0.1, cell
        elif "message" not in cell:
            assert cell["distance"] >= 0.25, cell
        if cell["verdict"] == "works with care":
            assert cell["distance_with_care"] <= 0.02, cell


def test_what_people_are_bitten_by():
    wrong = {pair for pair, cell in CELLS.items() if cell["verdict"] == "silently wrong"}
    for other in ("accumulation", "clipping", "scaler"):
        assert {("in backward", other), (other, "in backward")} & wrong


def test_each_cell_that_does_not_simply_work_has_a_note():
    assert set(NOTES) == {pair for pair, cell in CELLS.items() if cell["verdict"] != "works"}
    page = (ROOT / "docs" / "combining.md").read_text()
    places = [page.index(f"## {title}") for title in ("Silently wrong", "Works with care", "The m")]
    assert places == sorted(places)


def test_what_saves_nothing_here(tmp_path):
    from benchmarks import without_effect

    recorded = json.loads(without_effect.RESULTS.read_text())
    found = file_anew("without_effect", tmp_path, "-m", "benchmarks.without_effect")
    losses, products = found["losses"], found["products"]
    assert products == recorded["products"]
    assert len(set(products.values())) == 1  # float8 and int8 keep what bfloat16 keeps
    for title, row in losses.items():
        assert row == pytest.approx(recorded["losses"][title], rel=0.01)
    (here, there), chunks = losses.values(), list(without_effect.CHUNKS)
    assert here[chunks[0]] - here[chunks[1]] < 0.001
    assert there[chunks[1]] < 0.75 * there[chunks[0]]
