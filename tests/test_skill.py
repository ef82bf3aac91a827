"""SKILL.md: what a coding assistant is told is what the command takes and answers."""

import json
import re

import yaml

from ladder.rungs import ROOT
from tests.warm import FORM
from vramcast.command import arguments

TEXT = (ROOT / "SKILL.md").read_text()
_, HEAD, BODY = TEXT.split("---\n", 2)
COMMANDS = [line.split() for line in BODY.splitlines() if line.startswith("vramcast ")]


def test_its_head_is_as_skills_have_it():
    """By agentskills.io/specification."""
    head = yaml.safe_load(HEAD)
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", head["name"])
    assert len(head["name"]) <= 64
    assert 0 < len(head["description"]) <= 1024
    assert len(head["compatibility"]) <= 500
    assert set(head) == {"name", "description", "license", "compatibility"}
    assert len(TEXT.splitlines()) <= 70


def test_each_command_can_be_asked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("train.py", "other.py"):
        (tmp_path / name).write_text("")
    (tmp_path / "path" / "to").mkdir(parents=True)
    (tmp_path / "path" / "to" / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    assert len(COMMANDS) > 10
    for _, *words in COMMANDS:
        asked, _ = arguments.read(words)
        assert asked.json


def test_what_it_names_is_there():
    known = {key for one in FORM.schema["$defs"].values() for key in one.get("properties", {})}
    changes = FORM.schema["$defs"]["tried"]["properties"]["training"]["enum"]
    text = " ".join(BODY.split())
    for name in re.findall(r"`([\w /.-]+)`", text):
        path = ROOT / name
        assert (
            name in known or name in changes or path.is_file() or name.startswith(("-", "pip "))
        ), name
