"""Notebooks: functions as scripts, a prediction's picture, and this repository's notebooks."""

import functools
import pathlib
import re
from html.parser import HTMLParser

import nbformat
import pytest
import torch

from ladder import notebooks
from ladder.rungs import ROOT
from tests.test_escaping import Parts
from vramcast import NotPredicted, gpus, notebook, predict
from vramcast.functions import script_of
from vramcast.kinds import KINDS
from vramcast.prediction import Prediction

TEXT = "</pre><script>alert(1)</script><b>&'\""
WIDTH, LIMIT, SHAPE = 64, {"steps": [3, None]}, functools.partial(int)


class Block:
    size = WIDTH

    def forward(self):
        return helper(self.size)


def helper(number):
    return Parser and number * len(LIMIT) + (again() if number < 0 else 0)


def other():
    return helper(1)


again = other


Parser = HTMLParser
double = lambda number: 2 * number  # noqa: E731  as in many notebooks
place, kind = torch.device("cpu"), torch.bfloat16


def train():
    assert re.match("a", "a")
    assert double(1) == 2
    assert torch.zeros(1, device=place, dtype=kind).dtype == kind
    pathlib.Path("found.txt").write_text(str(Block().forward()))


def of_a_value():
    return SHAPE()


@functools.cache
def decorated():
    return WIDTH


def of_a_cache():
    return decorated()


async def later():
    return WIDTH


def test_a_function_becomes_a_script_that_runs_by_itself(tmp_path, monkeypatch):
    """With classes, functions that use each other, modules and plain values, at its own lines."""
    text = script_of(train)
    monkeypatch.chdir(tmp_path)
    exec(compile(text, "script.py", "exec"), {"__name__": "__main__"})
    assert (tmp_path / "found.txt").read_text() == "64"
    assert "again = other\n" in text
    [line] = [n for n, words in enumerate(text.splitlines(), 1) if words == "def train():"]
    assert line == train.__code__.co_firstlineno


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (of_a_value, r"of_a_value\(\) uses SHAPE, a partial that is already there"),
        (of_a_cache, r"of_a_cache\(\) uses decorated, a _lru_cache_wrapper that is already there"),
        (later, r"later\(\) is asynchronous"),
        (lambda: 1, "is no function that could be run"),
        (functools.partial(train), "is no function that could be run"),
        (decorated, "is no function that could be run"),
    ],
)
def test_what_cannot_be_a_script_is_told(function, told):
    with pytest.raises(NotPredicted, match=told):
        predict(function)


def test_a_function_within_another_is_told():
    number = 3

    def inner():
        return number

    with pytest.raises(ValueError, match=r"inner\(\) uses number of the function that it is in"):
        script_of(inner)


def test_the_largest_batch_is_that_of_a_gpu():
    with pytest.raises(NotPredicted, match="the largest batch for which GPU"):
        predict("train.py", batch_size="largest")


def test_all_gpus_are_a_question_for_the_command():
    with pytest.raises(NotPredicted, match="vramcast SCRIPT --gpu all"):
        predict("train.py", gpu="all")


def step(*sizes: int) -> dict:
    """A timeline with so many bytes of activations after each event."""
    course = [
        [
            "forward" if place < len(sizes) / 2 else TEXT,
            dict.fromkeys(KINDS, 0) | {"activations": n},
        ]
        for place, n in enumerate(sizes)
    ]
    peak = {"place": sizes.index(max(sizes)), "bytes": max(sizes), "phase": TEXT, "module": TEXT}
    return {"course": course, "peak": peak | {"line": 7}, "activations": []}


def test_a_picture_is_drawn_to_scale_and_keeps_its_peak():
    """Of 10,000 events, the one that is highest is drawn: its tip is 14 pixels below the top."""
    sizes = [10**9] * 10_000
    sizes[4_321] = 2 * 10**9
    page = notebook.html("answer", [], dict.fromkeys(KINDS, 0.5), 6, step(*sizes))
    top = notebook.TOP + 14
    assert f"V{top:.1f}" in page
    assert page.count(f"V{top + (notebook.HEIGHT - 14) / 2:.1f}") == 2  # before and after it
    assert f"M{800 * 0.4321:.1f} {top:.1f}l" in page
    widths = re.findall(r'<rect x="[\d.]+" width="([\d.]+)" height="14"', page)
    assert widths == [f"{800 * 0.5 / 6:.1f}"] * len(KINDS)
    assert len(page) < 40_000


def test_texts_of_a_script_stay_texts():
    row = Prediction(
        script=TEXT, reserved_gb=2, allocated_gb=1, breakdown_gb=dict.fromkeys(KINDS, 0.1),
        notes=[TEXT], host_gb=1, host_training_gb=1, created_gb=0, peak_phase=TEXT,
        peak_module=TEXT, seconds=1, like="plain", groups=0, gpu=gpus.DEFAULT,
        timeline=step(1, 2, 3),
    )  # fmt: skip
    parts = Parts(row._repr_html_())
    assert {tag for tag, _ in parts.tags}.isdisjoint({"script", "img", "style"})
    assert parts.tags.count(("b", set())) == 1


def test_without_a_step_there_is_none():
    assert notebook.html("answer", [], dict.fromkeys(KINDS, 0), 0, {}).count("<svg") == 1


@pytest.mark.parametrize("name", ["will_it_fit", "first_steps_on_a_t4"])
def test_a_notebook_runs_and_shows_what_is_recorded(name, tmp_path):
    path = ROOT / "notebooks" / f"{name}.ipynb"
    writes = "%%writefile" in path.read_text()
    found = notebooks.run(path, tmp_path if writes else path.parent)
    assert notebooks.shown(found) == notebooks.shown(nbformat.read(path, as_version=4)), (
        "make notebooks"
    )
    assert len(notebooks.shown(found)) == 2
    printed = "".join(
        output.text
        for cell in found.cells
        for output in cell.get("outputs", ())
        if "text" in output
    )
    assert "GB reserved" in printed
    if name == "will_it_fit":
        [size] = re.findall(r"batches of (\d+): [\d.]+ GB reserved", printed)
        assert 8 <= int(size) < 96  # the script's own do not fit
