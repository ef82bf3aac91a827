"""What pip, GitHub and others read: the wheel, the extras, the lock, the YAML files."""

import os
import re
import shutil
import tomllib
import zipfile

import yaml
from packaging.requirements import Requirement

from ladder.rungs import ROOT
from tests.helpers import run

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {
    name: set(map(Requirement, lines)) for name, lines in PROJECT["optional-dependencies"].items()
}
OWN = PROJECT["name"]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())


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
        assert "vramcast = vramcast.__main__:main" in archive.read(commands).decode()
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


def test_the_citation_is_complete_and_names_this_repository():
    """What the schema of version 1.2.0 requires, and nothing that it does not know."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["cff-version"] == "1.2.0"
    assert citation["title"] == (ROOT / "README.md").read_text().partition("\n")[0][2:]
    assert (citation["license"], citation["type"]) == (PROJECT["license"], "software")
    assert [set(author) for author in citation["authors"]] == [{"name"}]


def test_continuous_integration_runs_what_is_here():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    steps = workflow["jobs"]["ci"]["steps"]
    [command] = [step["run"] for step in steps if "run" in step]
    assert os.access(ROOT / command, os.X_OK)
    for step in [*steps, *ACTION["runs"]["steps"]]:
        assert re.fullmatch(r"actions/[\w-]+@v\d+", step.get("uses", "actions/any@v1"))
        assert step.keys() & {"run", "uses"}
    [path] = [step["with"]["path"] for step in steps if "upload-artifact" in step.get("uses", "")]
    assert path in (ROOT / ".ci" / "run").read_text()


def test_the_form_for_a_measurement_asks_for_the_record():
    text = (ROOT / ".github" / "ISSUE_TEMPLATE" / "measurement.yml").read_text()
    form = yaml.safe_load(text)
    fields = {field["id"]: field for field in form["body"] if "id" in field}
    required = [name for name, field in fields.items() if field.get("validations")]
    assert required == ["gpu", "script", "record"]
    assert (ROOT / fields["script"]["attributes"]["placeholder"]).is_file()
