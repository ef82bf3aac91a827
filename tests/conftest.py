"""Rows that several tests look at, and which tests run in one process.

`make test` runs several processes (pytest-xdist). Tests that share a fixture of ours that is made
once are one group, which one of them runs; all other tests go to whichever is idle.
"""

import os
from collections.abc import Callable
from pathlib import Path

# before PyTorch is imported: see `rehearsal/hardware.py` on threads of a busy machine
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

import benchmarks.seeds
from ladder.rows import by_script
from ladder.rungs import ROOT, read_ladder
from tests.rows_anew import rows_anew
from tests.scripts import HEAD

SCRIPTS = [rung.script for rung in read_ladder()]
PUBLISHED = ROOT / "results" / "published.json"


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Make the groups; pytest-xdist begins with the one of most tests."""
    groups: list[tuple[set, list[pytest.Item]]] = []  # what they share, and who
    for item in items:
        shared, members = made_once(item), [item]
        for group in [group for group in groups if group[0] & shared]:
            groups.remove(group)
            shared, members = shared | group[0], group[1] + members
        if shared:
            groups.append((shared, members))
    for number, (_, members) in enumerate(groups):
        for item in members:
            item.add_marker(pytest.mark.xdist_group(f"shared-{number}"))


def made_once(item: pytest.Item) -> set:
    """The fixtures of the tests' own that this test shares with others."""
    return {
        found[-1]
        for found in item._fixtureinfo.name2fixturedefs.values()
        if found[-1].scope != "function" and found[-1].func.__module__.startswith("tests.")
    }


@pytest.fixture(scope="session")
def rehearsed(tmp_path_factory) -> dict[str, dict]:
    """The rows of a rehearsal of all scripts, by script."""
    return rows_anew("rehearsed", SCRIPTS, tmp_path_factory.mktemp("rehearsed"), "rehearse.py")


@pytest.fixture(scope="session")
def seeds(tmp_path_factory) -> dict[str, dict]:
    """The rows of rehearsals with other seeds, by script."""
    folder = tmp_path_factory.mktemp("seeds")
    return rows_anew("seeds", benchmarks.seeds.SCRIPTS, folder, "-m", "benchmarks.seeds")


@pytest.fixture(scope="session")
def ladder(tmp_path_factory) -> dict[str, dict]:
    """The rows of predictions of all scripts, by script."""
    folder = tmp_path_factory.mktemp("predicted")
    return rows_anew("predicted", SCRIPTS, folder, "-m", "ladder.predict")


@pytest.fixture(scope="session")
def then(tmp_path_factory) -> dict[str, dict]:
    """The same of what is published, by the rules of 2023."""
    published = [script for script in SCRIPTS if script in by_script(PUBLISHED)]
    folder = tmp_path_factory.mktemp("predicted_2023")
    command = ("-m", "ladder.predict", "--as-of", "2023")
    return rows_anew("predicted_2023", published, folder, *command)


@pytest.fixture
def script(tmp_path) -> Callable[[str], Path]:
    """A function that writes a script and returns its path."""

    def write(text: str) -> Path:
        (tmp_path / "train.py").write_text(HEAD + text)
        return tmp_path / "train.py"

    return write
