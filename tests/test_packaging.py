"""What pip and others read: the wheel, the extras and the lock."""

import re
import shutil
import tomllib
import zipfile

from packaging.requirements import Requirement

from ladder.rungs import ROOT
from tests.helpers import run

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {
    name: set(map(Requirement, lines)) for name, lines in PROJECT["optional-dependencies"].items()
}
OWN = PROJECT["name"]


def pins(file: str) -> list[Requirement]:
    """The requirements of a file of pip's."""
    lines = [re.sub(r"(^|\s)#.*", "", line) for line in (ROOT / file).read_text().splitlines()]
    return [Requirement(line) for line in lines if line.strip()]


def test_the_wheel_holds_the_tool_and_nothing_else(tmp_path):
    """Built from a copy, since setuptools leaves its own files beside the sources."""
    copy = tmp_path / "copy"
    for name in ("vramcast", "ladder", "tests"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "local_utilities.py"):
        shutil.copy(ROOT / name, copy)
    (copy / "vramcast" / "of_a_test.json").write_text("[]")
    files = [path for path in (copy / "vramcast").rglob("*") if path.is_file()]
    process = run(
        "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--no-cache-dir",
        "--wheel-dir", str(tmp_path), str(copy),
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    [wheel] = tmp_path.glob("vramcast-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
        [commands] = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        assert "vramcast = vramcast.command.main:run" in archive.read(commands).decode()
    assert sorted(names) == sorted(path.relative_to(copy).as_posix() for path in files)


def test_the_scripts_pins_are_the_same_in_both_places():
    assert EXTRAS["scripts"] == set(pins("requirements.txt"))


def test_each_extra_that_a_script_needs_is_complete():
    for name in ("bonus", "lora", "torchao"):
        assert Requirement(f"{OWN}[scripts]") in EXTRAS[name]


def test_the_lock_holds_every_pin_and_nothing_of_a_machine():
    locked = {}
    for requirement in pins("requirements.lock"):
        assert re.fullmatch(r"==[\w.!+]+", str(requirement.specifier)), requirement
        if requirement.marker is None or requirement.marker.evaluate():
            locked[requirement.name] = requirement.specifier
    text = (ROOT / "requirements.lock").read_text()
    assert "://" not in text
    assert not re.search(r"(^|\s)[-/]", text)  # options of pip's, paths
    assert OWN not in locked
    for requirement in set().union(*EXTRAS.values(), map(Requirement, PROJECT["dependencies"])):
        if requirement.name == OWN:
            assert requirement.extras <= set(EXTRAS)
        else:
            [version] = re.findall(r"[\w.]+", str(locked[requirement.name]))
            assert requirement.specifier.contains(version), f"{requirement}: make lock"
