"""The GitHub Action: its steps, run here by bash in a repository of their own."""

import json
import os
import re
import subprocess
import sys

import pytest
import yaml
from markdown_it import MarkdownIt

from ladder.rungs import ROOT
from tests.test_escaping import Parts
from tests.warm import FORM
from vramcast.command import pull_request
from vramcast.kinds import KINDS

ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
STEPS = {step.get("id") or step.get("name"): step for step in ACTION["runs"]["steps"]}
ASKED = {"SCRIPT": "my train.py", "GPU": "$(exit 3)", "ARGUMENTS": "--gpus 2 -- --files *"}
HOSTILE = "```\n<script>alert(1)</script> @everyone ::error::x `` | [a](javascript:b) -->"
GH = """#!{python}
import json, pathlib, sys
place, words = pathlib.Path(__file__).parent, sys.argv[1:]
if (place / "forbidden").exists():
    sys.exit("gh: Resource not accessible by integration (HTTP 403)")
calls = place / "calls"
made = calls.read_text().splitlines() if calls.exists() else []
if "--jq" in words:
    first = words[-1].split('startswith("')[1].split('")')[0]
    print("\\n".join("7" for one in made if json.loads(json.loads(one)[1]).startswith(first)))
else:
    body = pathlib.Path(words[-1].removeprefix("body=@")).read_text()
    calls.open("a").write(json.dumps([words, json.dumps(body)]) + "\\n")
"""


def answer(reserved: float, fits: bool = True, **more: object) -> dict:
    """A prediction as --json has it."""
    sizes = dict.fromkeys(KINDS, 0) | {"activations": reserved - 1, "parameters": 0.5}
    row = {
        "schema": 1, "script": "train.py", "gpu": "T4", "memory_gb": 15.64, "gpus": 1,
        "batch_size": 64, "fits": fits, "may_fit": fits, "reserved_gb": reserved,
        "reserved_within_gb": reserved if fits else None, "allocated_gb": reserved - 0.25,
        "breakdown_gb": sizes, "peak_phase": "backward", "peak_module": "", "host_gb": 1,
        "host_training_gb": 1, "created_gb": 1, "cost": None, "like": "plain", "groups": 0,
        "left_out": [], "seconds": 1, "notes": [],
    } | more  # fmt: skip
    FORM.validate(row)
    return row


def bash(step: dict, folder, **environment: str) -> subprocess.CompletedProcess:
    """Run a step as GitHub does; programs in `folder`/bin are found first."""
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
        cwd=folder,
        env={
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "HOME": str(folder),
            "PYTHONPATH": str(ROOT),
            "RUNNER_TEMP": str(folder),
            "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
            "GITHUB_REPOSITORY": "owner/name",
        } | environment,
        capture_output=True,
        text=True,
    )  # fmt: skip


def program(folder, name: str, text: str) -> None:
    """A program that the steps find."""
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin" / name).write_text(text)
    (folder / "bin" / name).chmod(0o755)


def test_it_uses_each_of_its_inputs():
    used = set(re.findall(r"inputs\.([\w-]+)", (ROOT / "action.yml").read_text()))
    assert used == set(ACTION["inputs"])
    assert all("shell" in step for step in STEPS.values() if "run" in step)


@pytest.mark.parametrize("status", [0, 1, 2])
def test_it_ends_as_the_command_and_shows_its_answer(tmp_path, status):
    """The step that predicts, with a command that says what it is asked."""
    program(tmp_path, "vramcast", f'#!/bin/sh\nprintf "<%s>" "$@"\necho\nexit {status}\n')
    step = STEPS["predict"]
    assert set(step["env"]) == set(ASKED)
    process = bash(step, tmp_path, **ASKED)
    assert process.returncode == status, process.stderr
    told = "<my train.py><--gpu><$(exit 3)><--gpus><2><--><--files><*>"
    stop, shown, go_on = process.stdout.splitlines()
    assert shown == told
    assert stop == f"::stop-commands::{go_on.strip(':')}"
    assert told in (tmp_path / "summary.md").read_text()


@pytest.fixture
def checkout(tmp_path):
    """A shallow clone at a pull request's commit, whose base has another answer; a fake `gh`.

    The command answers with what lies beside the script.
    """
    program(tmp_path, "vramcast", '#!/bin/sh\necho "$@" >> "$HOME/asked"\ncat "$1.json"\n')
    program(tmp_path, "gh", GH.format(python=sys.executable))
    program(tmp_path, "python", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    origin, folder = tmp_path / "origin", tmp_path / "checkout"

    def git(*words: str, where=origin) -> None:
        given = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
        subprocess.run(["git", *given, *words], cwd=where, check=True, capture_output=True)

    origin.mkdir()
    git("init")
    for branch, text in (("main", answer(12.3)), ("change", answer(14.1, fits=False))):
        if branch != "main":
            git("checkout", "-b", branch)
        (origin / "train.py.json").write_text(json.dumps(text))
        git("add", ".")
        git("commit", "-m", branch)
    git("checkout", "-b", "empty")
    git("rm", "train.py.json")
    git("commit", "-m", "without it")
    git("clone", "--depth=1", "--branch=change", f"file://{origin}", str(folder), where=tmp_path)
    (tmp_path / "vramcast.txt").write_text(f"train.py does not fit\n{HOSTILE}\n")
    (folder / "bin").symlink_to(tmp_path / "bin")
    return folder


def commented(folder, **environment: str) -> subprocess.CompletedProcess:
    """Run the step that compares, and the one that comments; scripts run without its token."""
    given = {"SCRIPT": "train.py", "GPU": "T4", "ARGUMENTS": "-- --lr *", "BASE": "main"}
    token = {"NUMBER": "5", "GH_TOKEN": "none"}
    temporary = folder.parent
    places = {"RUNNER_TEMP": str(temporary), "HOME": str(temporary)}
    places["GITHUB_STEP_SUMMARY"] = str(temporary / "summary.md")
    (folder / "json.py").write_text("raise SystemExit('a module of the repository')")
    for name, asked in (("beside", given | environment), ("Comment on the pull request", token)):
        step = STEPS[name]
        assert set(step["env"]) == set(asked)
        process = bash(step, folder, **asked | places)
        assert process.returncode == 0, process.stderr
    return process


def calls(folder) -> list[tuple[list[str], str]]:
    """What `gh` was asked to write: its words, and the comment."""
    lines = (folder / "bin" / "calls").read_text().splitlines()
    return [(words, json.loads(body)) for words, body in map(json.loads, lines)]


def test_a_pull_request_gets_one_comment_with_the_change(checkout):
    for _ in range(2):  # pushes
        commented(checkout)
    (first, text), (second, again) = calls(checkout)
    assert "repos/owner/name/issues/5/comments" in first
    assert "-X" not in first
    assert second[2:5] == ["-X", "PATCH", "repos/owner/name/issues/comments/7"]
    assert again == text
    assert "`train.py` does not fit `T4`, reserved 12.30 GB → 14.10 GB (+1.80)" in text
    for line in (
        "| reserved, GB | 12.30 | 14.10 | +1.80 |", "| · parameters | 0.50 | 0.50 |  |",
        "| `T4`, 15.64 GB | fits | does not fit | |", "| predicted peak | `main` |",
    ):  # fmt: skip
        assert line in text
    assert text in (checkout.parent / "summary.md").read_text()
    asked = set((checkout.parent / "asked").read_text().splitlines())
    assert asked == {"train.py --gpu T4 --json -- --lr *"}
    worktrees = subprocess.run(["git", "worktree", "list"], cwd=checkout, capture_output=True)
    assert worktrees.stdout.count(b"\n") == 1


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"BASE": "empty"}, "there was no answer"),
        ({"BASE": "gone"}, "the branch could not be fetched"),
        ({"SCRIPT": "/tmp/train.py"}, "the script's path is no path in the repository"),
    ],
)
def test_a_base_without_an_answer_is_told(checkout, given, told):
    commented(checkout, **given)
    [(_, text)] = calls(checkout)
    assert f"`{given.get('BASE', 'main')}`: no prediction to compare with.\n\n```\n{told}" in text


def test_without_permission_the_summary_has_it(checkout):
    (checkout / "bin" / "forbidden").touch()
    process = commented(checkout)
    assert "::warning::vramcast could not comment" in process.stdout
    assert "reserved 12.30 GB → 14.10 GB" in (checkout.parent / "summary.md").read_text()


def test_all_that_comes_from_a_script_stays_text():
    failed = {"schema": 1, "script": HOSTILE, "error": HOSTILE}
    named = answer(1, script=HOSTILE, gpu=HOSTILE)
    for head in (failed, named, {"schema": 1, "script": HOSTILE, "rows": []}):
        text = pull_request.comment(head, failed, HOSTILE, HOSTILE)
        parser = MarkdownIt("commonmark", {"html": True}).enable("table")
        parts = Parts(parser.render(text))
        assert {tag for tag, _ in parts.tags}.isdisjoint({"script", "a", "img"}), text
        outside = "".join(
            child.content
            for token in parser.parse(text)
            for child in token.children or ()
            if child.type == "text"
        )
        assert "@everyone" not in outside
    assert pull_request.marker(HOSTILE).startswith("<!-- vramcast ")
    assert len(pull_request.marker(HOSTILE)) == 34


def test_what_did_not_change_is_told():
    text = pull_request.comment(answer(12.3), answer(12.3), "main")
    assert "`train.py` fits `T4`, reserved 12.30 GB → 12.30 GB (no change)" in text
    assert "| reserved, GB | 12.30 | 12.30 |  |" in text
    assert "`train.py` fits `T4`, 12.30 GB reserved\n" in pull_request.comment(answer(12.3), {})
