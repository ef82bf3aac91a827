"""README, generated pages, and what is recorded."""

import json
import math
import os
import re
import subprocess
import tomllib

import pytest
import torch
from torchvision.models import vit_h_14

from ladder import answer, record, rows, summary
from ladder.pages import generate as pages
from ladder.pages import markers, terminal
from ladder.rungs import ROOT, read_ladder
from tests.warm import FORM

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\S*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
COMMANDS = "".join(
    text for page in PAGES for kind, text in BLOCK.findall(page.read_text()) if not kind
).splitlines()


def test_generated_pages_are_up_to_date():
    made = pages.pages()
    stale = [
        path.name for path, text in made.items() if not path.exists() or path.read_text() != text
    ]
    assert stale == [], "run make results"
    names = {path.name for path in made}
    assert {path.name for path in pages.PAGES.iterdir()} <= names  # none of a script that is gone


def test_the_pictured_answer_is_the_recorded_prediction():
    pictured = json.loads(answer.RECORDED.read_text())
    row = rows.by_script(ROOT / "results" / "predicted.json")[answer.SCRIPT]
    for key in ("reserved_gb", "allocated_gb", "breakdown_gb", "host_gb", "like"):
        assert pictured[key] == row[key], "python -m ladder.answer; make results"
    FORM.validate(pictured | {"seconds": 0})
    drawn = terminal.picture()
    assert "//" not in drawn.replace("http://www.w3.org/2000/svg", "")  # nothing from elsewhere
    for kind, size in row["breakdown_gb"].items():
        assert f"{kind}&#160;{size:.2f}" in drawn


@pytest.mark.parametrize("name", ["predicted.json", "rehearsed.json"])
def test_each_rung_is_recorded(name):
    recorded = rows.by_script(ROOT / "results" / name)
    missing = [rung.script for rung in read_ladder() if rung.script not in recorded]
    assert missing == [], "see docs/adding-a-rung.md on how to record it"


def test_commands_in_the_pages_exist():
    makefile = (ROOT / "Makefile").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert len(COMMANDS) >= 6
    for command in filter(None, COMMANDS):
        program, *words = command.split()
        assert program in (
            "make",
            "python",
            "pip",
            "git",
            "torchrun",
            "vramcast",
            "CUDA_VISIBLE_DEVICES=0,1",
        ), command
        if program == "make":
            assert re.search(rf"^{words[0]}:", makefile, re.MULTILINE), command
        for word in words:
            if re.search(r"\.(py|txt|lock)$", word):
                assert (ROOT / word).is_file(), command
            if extras := re.fullmatch(r'"\.\[(.+)\]"', word):
                assert set(extras[1].split(",")) <= set(project["optional-dependencies"]), command


def test_what_to_expect_of_several_gpus_is_calculated():
    """The page's table, from ViT-H/14's parameters and CIFAR-10's images.

    Float32 parameters, gradients and two optimizer states are 16 bytes; a step all-gathers float16
    parameters twice and reduce-scatters float16 gradients once, each time but for a GPU's own
    shard.
    """
    page = (ROOT / "docs" / "several-gpus.md").read_text()
    with torch.device("meta"):
        model = vit_h_14(image_size=518)
        model.heads.head = torch.nn.Linear(1280, 10)
    parameters = sum(p.numel() for p in model.parameters())
    gpus = [1, 2, 4, 8, 8]
    rows = {
        "parameters, gradients and optimizer states, in GB": [
            f"{16e-9 * parameters / n:.1f}" for n in gpus
        ],
        "moved in each step by 08b, 08c, 09 and 10, in GB": [
            f"{6e-9 * parameters * (n - 1) / n:.1f}" if n > 1 else "0" for n in gpus
        ],
        "images in each step, of all GPUs": [str(4 * n) for n in gpus],
        "steps in an epoch": [f"{math.ceil(45_000 / (4 * n)):,}" for n in gpus],
    }
    for name, cells in rows.items():
        assert f"| {name} | {' | '.join(cells)} |" in page


def test_no_link_is_dead():
    """Relative links of all pages lead to files, and to headings that are there."""
    links = 0
    for page in PAGES:
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            if link.startswith("https://"):
                continue
            name, _, heading = link.partition("#")
            target = page.parent / name if name else page
            assert target.exists(), f"{page.name}: {link}"
            if heading:
                titles = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
                anchors = [re.sub(r"[^\w -]", "", title.lower()) for title in titles]
                assert heading in [anchor.replace(" ", "-") for anchor in anchors], link
            links += 1
    assert links > 100


def test_a_missing_marker_is_told():
    with pytest.raises(ValueError, match="needs the two lines"):
        markers.put("# no markers", "results", "table")


def test_only_good_rows_of_the_ladder_are_taken_over(tmp_path):
    local, recorded = tmp_path / "local" / "rows.json", tmp_path / "rows.json"
    first, second, third = (
        "01_pytorch-fp32.py", "08-10-vit-h14/08_baseline.py", "bonus_bigbird.py"
    )  # fmt: skip
    old = [{"script": script, "accuracy": 0.5} for script in (second, third)]
    recorded.write_text(json.dumps(old))
    number, said = record.take_over(local, recorded)
    assert (number, "nothing to take over" in said) == (0, True)
    assert json.loads(recorded.read_text()) == old
    local.parent.mkdir()
    found = [
        {"script": second, "accuracy": 0.9},
        {"script": third, "error": "line 3: ValueError: too hot"},
        {"script": "/elsewhere/own.py", "accuracy": 0.9},
        {"script": first, "accuracy": 0.9},
    ]
    local.write_text(json.dumps(found))
    number, said = record.take_over(local, recorded)
    assert number == 2
    assert "2 rows taken over" in said
    assert f"left out, because they failed: {third}" in said
    assert json.loads(recorded.read_text()) == [found[3], found[0], old[1]]


def test_a_local_file_that_holds_something_else_is_told(tmp_path):
    (tmp_path / "predicted.json").write_text("[1, 2]")
    with pytest.raises(ValueError, match=r"predicted.json is no file of rows .* move it away"):
        summary.lines(tmp_path)


def test_the_summary_says_what_is_missing_and_why(tmp_path):
    row = json.loads((ROOT / "results" / "rehearsed.json").read_text())[0]
    failed = {"script": "bonus_bigbird.py", "error": "line 3: ValueError: too hot"}
    (tmp_path / "rehearsed.json").write_text(json.dumps([row, failed]))
    lines = summary.lines(tmp_path)
    shown = f"{100 * row['accuracy']:.1f} %"
    assert any(line.startswith("01_pytorch-fp32.py") and shown in line for line in lines)
    assert "bonus_bigbird.py could not be rehearsed: line 3: ValueError: too hot" in lines
    [absent] = [line for line in lines if line.startswith("Not rehearsed yet")]
    assert "02_mixed-precision.py" in absent
    assert "01_pytorch-fp32.py" not in absent
    assert "bonus_bigbird.py" not in absent


PREDICT = "-m ladder.predict"
FIRST = "rehearse.py --resume"
ALL = [FIRST, f"{PREDICT} --resume", f"{PREDICT} --resume --as-of 2023", "-m ladder.summary"]


@pytest.mark.parametrize(
    ("statuses", "called", "status"),
    [
        ("0 0 0 0", ALL, 0),
        ("1 0 0 0", ALL, 2),
        ("0 2 0 0", ALL, 2),
        ("130 0 0 0", [FIRST], 2),  # Ctrl-C
    ],
)
def test_make_ladder_goes_on_after_a_failure(tmp_path, statuses, called, status):
    """With a Python that only notes what it is asked, and ends with these statuses."""
    python, calls, ready = (tmp_path / name for name in ("python", "calls", "ready"))
    python.write_text(
        f'#!/bin/sh\necho "$*" >> {calls}\n'
        f"set -- {statuses}\nshift $(($(wc -l < {calls}) - 1))\nexit $1\n"
    )
    python.chmod(0o755)
    ready.touch()
    process = subprocess.run(
        ["make", "ladder", f"PYTHON={python}", f"READY={ready}"],
        cwd=ROOT,
        env={key: value for key, value in os.environ.items() if not key.startswith("MAKE")},
        capture_output=True,
        text=True,
    )
    assert calls.read_text().splitlines() == called, process.stderr
    assert f"Stage {len(called)} of 4: python {called[-1]}" in process.stdout
    assert process.returncode == status  # make's own for a failed recipe is 2
