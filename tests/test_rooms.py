"""The house: what may import what, and whether each room says what is in it."""

import ast
import re
from pathlib import Path

import pytest

from ladder.rungs import ROOT

# from top to bottom; modules at the top of the package, but for these two, are the bottom
ROOMS = (
    "command", "run", "techniques", "libraries", "compiled", "device", "ranks", "sandbox", "step",
    "cost", "loops", "operators", "memory", "processes",
)  # fmt: skip
ABOVE_ALL = {"api", "__main__", "__init__"}
PACKAGES = [
    "ladder",
    "ladder/pages",
    "rehearsal",
    "rehearsal/pretraining",
    "tests",
    "tests/probes",
    "website",
    "vramcast",
    *(f"vramcast/{room}" for room in ROOMS),
]
OURS = {path.stem for path in ROOT.glob("*.py")} | {
    path.parent.name for path in ROOT.glob("*/*.py") if path.parent.name != "vramcast"
}


def imports(path: Path) -> set[str]:
    """The full names of all modules and names that a module imports, wherever it does."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, path
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


MODULES = sorted((ROOT / "vramcast").rglob("*.py"))


def test_there_are_no_other_rooms():
    assert {path.name for path in (ROOT / "vramcast").iterdir() if path.is_dir()} - {
        "__pycache__"
    } == set(ROOMS)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_tool_imports_nothing_of_this_repository_and_nothing_above(path):
    own = path.relative_to(ROOT / "vramcast").parts[0]
    for name in imports(path):
        first, *rest = name.split(".")
        assert first not in OURS, name
        if first != "vramcast" or (path.stem in ABOVE_ALL and len(path.parts) == 2):
            continue
        room = rest[0] if rest and rest[0] in ROOMS else None
        if own in ROOMS and room:
            assert ROOMS.index(room) >= ROOMS.index(own), f"{path}: {name}"
        elif own not in ROOMS and path.stem not in ABOVE_ALL:
            assert room is None, f"{path}: {name}"


@pytest.mark.parametrize("package", PACKAGES)
def test_each_module_is_listed_in_its_package(package):
    """With what is in it, in a line of the package's docstring."""
    text = ast.get_docstring(ast.parse((ROOT / package / "__init__.py").read_text()))
    modules = {path.stem for path in (ROOT / package).glob("*.py")} - {"__init__", "__main__"}
    modules = {name.removeprefix("test_") for name in modules}
    missing = {name for name in modules if not re.search(rf"\b{name}\b", text)}
    assert missing == set()
