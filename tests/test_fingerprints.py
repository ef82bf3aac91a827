"""Fingerprints: what changes which, and that only what has changed is made anew."""

import json
import subprocess
from pathlib import Path

import pytest

from ladder import fingerprints
from tests import rows_anew

ONE, TWO = "01_one.py", "11-16-under-1gb/11_two.py"
FILES = (
    ONE, TWO, "local_utilities.py", "rehearse.py", "requirements.lock", "ladder/predict.py",
    "ladder/fits.py", "vramcast/gpus.py", "vramcast/command/report.py",
    "vramcast/libraries/sizes.json", "vramcast/processes/pool.py", "rehearsal/data.py",
    "rehearsal/pretraining/vit.safetensors",
    "benchmarks/pairs.py", "benchmarks/plain_training.py", "benchmarks/small_network.py",
    "benchmarks/small_training.py", "benchmarks/seeds.py", "benchmarks/without_effect.py",
    "benchmarks/on_gpu.py", "README.md", "tests/test_one.py",
)  # fmt: skip
BY_SCRIPT = {"predicted", "predicted_2023", "rehearsed", "seeds"}
PREDICTIONS, REHEARSALS = {"predicted", "predicted_2023"}, {"rehearsed", "seeds"}
ALL = {*BY_SCRIPT, "combining", "without_effect"}


@pytest.fixture
def repository(tmp_path, monkeypatch) -> Path:
    """A repository of small files, whose fingerprints are asked for."""
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    for module in (fingerprints, rows_anew):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    fingerprints._shared.cache_clear()
    yield tmp_path
    fingerprints._shared.cache_clear()


def known(repository: Path) -> dict[str, str]:
    """All fingerprints, by results file, and the script's name where it has a row."""
    fingerprints._shared.cache_clear()
    found = {
        f"{kind} {script}": fingerprints.of(repository / script, kind)
        for kind in BY_SCRIPT
        for script in (ONE, TWO)
    }
    return found | {kind: fingerprints.of_all(kind) for kind in ALL - BY_SCRIPT}


def test_no_two_are_the_same(repository):
    found = known(repository)
    assert len(set(found.values())) == len(found) == 10
    assert known(repository) == found
    assert set(fingerprints.MADE_BY) == ALL


@pytest.mark.parametrize("script", [ONE, TWO])
def test_a_script_changes_its_own_rows_alone(repository, script):
    before = known(repository)
    (repository / script).write_text("changed")
    after = known(repository)
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {f"{kind} {script}" for kind in BY_SCRIPT}


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("requirements.lock", ALL),
        ("local_utilities.py", ALL),
        ("vramcast/gpus.py", {*PREDICTIONS, "without_effect"}),
        ("vramcast/libraries/sizes.json", {*PREDICTIONS, "without_effect"}),
        ("vramcast/processes/pool.py", ALL - {"combining"}),
        ("vramcast/command/report.py", set()),
        ("ladder/predict.py", PREDICTIONS),
        ("rehearsal/data.py", {*REHEARSALS, "combining"}),
        ("rehearsal/pretraining/vit.safetensors", {*REHEARSALS, "combining"}),
        ("benchmarks/seeds.py", {"seeds"}),
        ("benchmarks/without_effect.py", {"without_effect"}),
        ("benchmarks/small_network.py", {"combining"}),
        ("benchmarks/on_gpu.py", set()),
        ("ladder/fits.py", set()),
        ("README.md", set()),
        ("tests/test_one.py", set()),
    ],
)
def test_a_file_changes_all_that_is_made_by_it(repository, name, kinds):
    before = known(repository)
    (repository / name).write_text("changed")
    after = known(repository)
    changed = {kind.partition(" ")[0] for kind in before if after[kind] != before[kind]}
    assert changed == kinds
    for kind in changed & BY_SCRIPT:  # of both scripts
        assert all(after[f"{kind} {script}"] != before[f"{kind} {script}"] for script in (ONE, TWO))


def test_a_file_that_is_new_or_gone_is_a_change(repository):
    before = known(repository)
    (repository / "vramcast/new.py").write_text("")
    new = known(repository)
    assert new[f"predicted {ONE}"] != before[f"predicted {ONE}"]
    (repository / "vramcast/new.py").unlink()
    assert known(repository) == before


def test_what_python_leaves_beside_its_sources_changes_nothing(repository):
    before = known(repository)
    (repository / "vramcast/__pycache__").mkdir()
    (repository / "vramcast/__pycache__/gpus.pyc").write_text("")
    (repository / "rehearsal/rows.draft").write_text("")
    assert known(repository) == before


# ----------------------------------------------------------------------------------- made anew


@pytest.fixture
def ran(repository, monkeypatch) -> list[tuple]:
    """The commands that were run; each makes what it is asked for, and says "new"."""
    commands = []
    monkeypatch.delenv("SHARE", raising=False)

    def run(*command: str, **_) -> subprocess.CompletedProcess:
        commands.append(command)
        scripts = [word for word in command if word in (ONE, TWO)]
        made = [{"script": script, "is": "new"} for script in scripts] or {"is": "new"}
        Path(command[-1]).write_text(json.dumps(made))
        return subprocess.CompletedProcess(command, 0, " ".join(command), "")

    monkeypatch.setattr(rows_anew, "run", run)
    return commands


def recorded(repository: Path, kind: str, content: object) -> None:
    (repository / "results").mkdir(exist_ok=True)
    (repository / "results" / f"{kind}.json").write_text(json.dumps(content))


def row(repository: Path, script: str) -> dict:
    made_from = fingerprints.of(repository / script, "rehearsed")
    return {"script": script, "is": "old", "fingerprint": made_from}


def made(folder: Path) -> dict[str, str]:
    rows = rows_anew.rows_anew("rehearsed", [ONE, TWO], folder, "rehearse.py")
    return {script: row["is"] for script, row in rows.items()}


def test_unchanged_rows_are_not_made_anew(repository, ran, tmp_path):
    recorded(repository, "rehearsed", [row(repository, ONE), row(repository, TWO)])
    assert made(tmp_path) == {ONE: "old", TWO: "old"}
    assert ran == []


def test_a_changed_row_alone_is_made_anew(repository, ran, tmp_path):
    recorded(repository, "rehearsed", [row(repository, ONE), row(repository, TWO)])
    (repository / TWO).write_text("changed")
    assert made(tmp_path) == {ONE: "old", TWO: "new"}
    assert ran == [("rehearse.py", TWO, "--results", str(tmp_path / "rehearsed.json"))]


def test_rows_that_nobody_recorded_are_made(repository, ran, tmp_path):
    """Also those that do not say what they were made from."""
    recorded(repository, "rehearsed", [{"script": ONE, "is": "old"}])
    assert made(tmp_path) == {ONE: "new", TWO: "new"}


def test_all_are_made_anew_where_that_is_asked(repository, ran, tmp_path, monkeypatch):
    recorded(repository, "rehearsed", [row(repository, ONE), row(repository, TWO)])
    monkeypatch.setenv("SHARE", "1")
    assert made(tmp_path) == {ONE: "new", TWO: "new"}


def test_a_command_that_fails_is_told(repository, ran, tmp_path, monkeypatch):
    failed = subprocess.CompletedProcess((), 1, "too hot", "")
    monkeypatch.setattr(rows_anew, "run", lambda *command, **_: failed)
    recorded(repository, "rehearsed", [])
    with pytest.raises(AssertionError, match="too hot"):
        made(tmp_path)


def test_a_file_is_made_anew_if_it_has_changed(repository, ran, tmp_path, monkeypatch):
    def made() -> str:
        command = ("-m", "benchmarks.pairs")
        return rows_anew.file_anew("combining", tmp_path / "results", *command)["is"]

    recorded(repository, "combining", {"is": "old"})
    fingerprint = fingerprints.of_all("combining")
    assert (made(), len(ran)) == ("new", 1)
    recorded(repository, "combining", {"is": "old", "fingerprint": fingerprint})
    assert (made(), len(ran)) == ("old", 1)
    (repository / "benchmarks/pairs.py").write_text("changed")
    fingerprints._shared.cache_clear()
    assert (made(), len(ran)) == ("new", 2)
    recorded(repository, "combining", {"is": "old", "fingerprint": fingerprint})
    monkeypatch.setenv("SHARE", "1")
    assert (made(), len(ran)) == ("new", 3)


@pytest.mark.parametrize(("share", "made"), [(None, 0), ("1", 99), ("3", 33)])
def test_a_share_of_what_has_not_changed_is_made_anew_too(monkeypatch, share, made):
    monkeypatch.delenv("SHARE", raising=False)
    if share:
        monkeypatch.setenv("SHARE", share)
    prints = [f"{number:016x}" for number in range(99)]
    assert sum(rows_anew._due(one, one) for one in prints) == made
    assert all(rows_anew._due("another", one) for one in prints)
