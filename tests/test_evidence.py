"""What others measured: the recorded rows, and the margins that are made of them."""

import json
import statistics

import pytest

from benchmarks.measured_by_others.case import name_of
from benchmarks.measured_by_others.cases import CASES
from ladder.margin import Pair, margins, of_kind, pairs, told_in_vain
from ladder.pages import others
from ladder.rungs import ROOT
from vramcast.evidence import LIKE

ROWS = json.loads((ROOT / "results" / "others.json").read_text())
COUNTED = [row for row in ROWS if row["counted"]]


def test_every_figure_that_was_chosen_is_recorded_as_it_was_published():
    assert len({case.name for case in CASES}) == len(CASES)
    for row, case in zip(ROWS, CASES, strict=True):
        assert name_of(row) == case.name
        assert row.items() >= case.row().items(), case.name


def test_one_figure_gave_a_length_and_is_not_counted():
    gave = [case for case in CASES if "gave the length" in case.note]
    assert [case.counted for case in gave] == [False]


def test_predictions_hold_against_what_others_measured():
    """Half of them within 1 %, and 95 % of them within 5 %."""
    errors = [abs(others.error(row)) for row in COUNTED if "predicted_gb" in row]
    assert len(COUNTED) >= 200
    assert statistics.median(errors) <= 0.01
    assert sum(size <= 0.05 for size in errors) >= 0.95 * len(errors)


def test_each_miss_is_on_the_page():
    page = (ROOT / "docs" / "how-far-off.md").read_text()
    missed = [row for row in COUNTED if "error" in row or abs(others.error(row)) > others.MISS]
    listed = others.misses(ROWS).splitlines()
    assert len(listed) == len(missed) > 0
    assert all(line in page for line in listed)


def test_the_margins_are_those_that_the_tool_ships():
    shipped = json.loads((ROOT / "vramcast" / "margin.json").read_text())
    assert shipped == margins()
    known = pairs(ROOT / "results")
    for kind in LIKE:
        own = [pair for pair in known if pair.kind == kind]
        assert shipped[kind]["figures"] == len(own)
        assert all(pair.measured <= pair.predicted * (1 + shipped[kind]["margin"]) for pair in own)
    assert not told_in_vain(known, left_out=False)


def test_a_margin_is_the_largest_share_by_which_a_measurement_was_higher(tmp_path):
    rows = [
        ("plain", "a", 10.0, 9.5, 0), ("plain", "b", 10.0, 11.0, 0),
        ("convolutions", "b", 10.0, 8.0, 0),
        ("plain", "c", 10.0, 5.0, 1343),  # from nvidia-smi
    ]  # fmt: skip
    (tmp_path / "others.json").write_text(
        json.dumps(
            [
                {"like": like, "project": project, "what": "", "counted": True,
                 "measured_gb": measured, "predicted_gb": predicted, "besides": besides}
                for like, project, measured, predicted, besides in rows
            ]
        )
    )  # fmt: skip
    found = margins(tmp_path)
    assert found["plain"] == {"margin": pytest.approx(10 / 9.5 - 1), "figures": 2, "projects": 2}
    assert found["convolutions"]["margin"] == pytest.approx(0.25)
    assert found["compiled"] == {"margin": pytest.approx(0.25), "figures": 0, "projects": 0}
    assert margins(tmp_path / "none")["plain"] == {"margin": 0, "figures": 0, "projects": 0}


def test_no_measurement_is_held_against_a_margin_that_it_made():
    high, higher = (Pair("plain", name, "", 10.0, by) for name, by in (("a", 9.8), ("b", 9.5)))
    exact = Pair("plain", "c", "", 10.0, 10.0)
    assert told_in_vain([high, higher, exact], left_out=False) == []
    assert told_in_vain([high, higher, exact], left_out=True) == [higher]
    assert of_kind("plain", [high, exact]) == pytest.approx(10 / 9.8 - 1)
