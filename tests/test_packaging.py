"""What pip and others read: the wheel."""

import shutil
import zipfile

from ladder.rungs import ROOT
from tests.helpers import run


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
