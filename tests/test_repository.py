"""README, generated pages and style."""

import json
import re

import pytest

from docs import generate
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
        assert program in ("make", "python", "pip", "git"), command
        if program == "make":
            assert re.search(rf"^{words[0]}:", makefile, re.MULTILINE), command
        for word in words:
            if re.search(r"\.(py|txt)$", word):
                assert (ROOT / word).is_file(), command


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


def test_generate_tells_of_a_missing_marker():
    with pytest.raises(ValueError, match="needs the two lines"):
        generate.with_table("# no markers", "table")
