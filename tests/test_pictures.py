"""The pages' pictures: all of their text is inside, and what they show of each rung."""

import dataclasses
from xml.etree import ElementTree

import pytest

from ladder.pages.against_flops import against_flops
from ladder.pages.drawing import LETTER, WIDTH
from ladder.pages.generate import PAGES
from ladder.pages.tables import Figures
from ladder.rungs import FAMILIES, ROOT, of_family, read_ladder

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def figures():
    return Figures.read(read_ladder(), ROOT / "results")


def test_no_text_is_cut_off():
    pictures = [*PAGES.glob("*.svg"), *(ROOT / "docs" / "examples").glob("*.svg")]
    assert len(pictures) > 50
    for path in pictures:
        for text in ElementTree.parse(path).getroot().iter(f"{SVG}text"):
            width = LETTER * len(text.text or "")
            share = {"end": 1, "middle": 0.5}.get(text.get("text-anchor"), 0)
            left = float(text.get("x")) - share * width
            assert left >= 0, (path.name, text.text)
            assert left + width <= WIDTH, (path.name, text.text)


@pytest.mark.parametrize("name", FAMILIES)
def test_memory_against_flops_names_every_rung(figures, name):
    rungs = of_family(read_ladder(), name)
    root = ElementTree.fromstring(against_flops(name, rungs, figures))
    drawn = {
        mark.get("data-script"): mark for mark in root.iter(f"{SVG}g") if mark.get("data-script")
    }
    counted = {rung.script for rung in rungs if rung.script in figures.costs}
    assert set(drawn) == counted
    for script, mark in drawn.items():
        beside = [
            text.text for text in mark.iter(f"{SVG}text") if "t" not in text.get("class").split()
        ]
        assert len(beside) == 1, script
        published = figures.whole.get(script, {})
        if "accuracy" in published:
            assert f"{published['accuracy']:.2f} %" in beside[0]
        assert ("published: " in mark.get("aria-label")) == (script in figures.whole)


def test_memory_against_flops_says_what_was_not_counted(figures):
    rungs = of_family(read_ladder(), FAMILIES[0])
    costs = {script: cost for script, cost in figures.costs.items() if "12_" not in script}
    without = against_flops("x", rungs, dataclasses.replace(figures, costs=costs))
    assert "FLOPs not counted: 12<" in without
    assert "not counted" not in against_flops("x", rungs, figures)
