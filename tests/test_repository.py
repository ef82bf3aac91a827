"""README, generated pages and style."""

import json
import math
import re

import pytest
import torch
from torchvision.models import vit_h_14

from docs import generate, markers
from stand_ins.ladder import ROOT
from tests.helpers import run

README = (ROOT / "README.md").read_text()
COMMANDS = "\n".join(re.findall(r"^```\n(.*?)^```", README, re.DOTALL | re.MULTILINE)).splitlines()


def test_generated_pages_are_up_to_date():
    for path, text in generate.pages().items():
        assert path.read_text() == text, f"{path.name} is out of date: run make results"


def test_the_recorded_rehearsal_was_quick():
    """Each script at most 30 s and all at most 6 minutes, on the machine that wrote the record."""
    seconds = [row["seconds"] for row in json.loads((ROOT / "results/rehearsed.json").read_text())]
    assert max(seconds) <= 30
    assert sum(seconds) <= 360


def test_commands_in_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text()
    assert len(COMMANDS) >= 6
    for command in filter(None, COMMANDS):
        program, *words = command.split()
        assert program in (
            "make",
            "python",
            "pip",
            "git",
            "torchrun",
            "CUDA_VISIBLE_DEVICES=0,1",
        ), command
        if program == "make":
            assert re.search(rf"^{words[0]}:", makefile, re.MULTILINE), command
        for word in words:
            if re.search(r"\.(py|txt)$", word):
                assert (ROOT / word).is_file(), command


def test_what_to_expect_of_several_gpus_is_calculated():
    """The README's table, from ViT-H/14's parameters and CIFAR-10's images.

    Float32 parameters, gradients and two averages are 16 bytes; a step gathers float16 parameters
    twice and scatters float16 gradients once, each time but for the part that a GPU has.
    """
    with torch.device("meta"):
        model = vit_h_14(image_size=518)
        model.heads.head = torch.nn.Linear(1280, 10)
    parameters = sum(p.numel() for p in model.parameters())
    gpus = [1, 2, 4, 8, 8]
    rows = {
        "parameters, gradients and averages, in GB": [
            f"{16e-9 * parameters / n:.1f}" for n in gpus
        ],
        "moved in each step by 08b, 08c, 09 and 10, in GB": [
            f"{6e-9 * parameters * (n - 1) / n:.1f}" if n > 1 else "0" for n in gpus
        ],
        "images in each step, of all GPUs": [str(4 * n) for n in gpus],
        "steps in an epoch": [f"{math.ceil(45_000 / (4 * n)):,}" for n in gpus],
    }
    for name, cells in rows.items():
        assert f"| {name} | {' | '.join(cells)} |" in README


def test_files_in_the_readme_exist():
    names = re.findall(r"^\| `([^`]+)`", README, re.MULTILINE)
    names += re.findall(r"\]\(([^)#]+)", README)
    assert len(names) > 15
    for name in names:
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("arguments", [["check", "."], ["format", "--check", "."]])
def test_style(arguments):
    process = run("-m", "ruff", *arguments)
    assert process.returncode == 0, process.stdout


def test_a_missing_marker_is_told():
    with pytest.raises(ValueError, match="needs the two lines"):
        markers.put("# no markers", "results", "table")
