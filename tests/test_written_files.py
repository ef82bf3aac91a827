"""Files as a script sees them: what it has written, over what is here. Without PyTorch."""

import json

from tests.helpers import run

# Each line's outcome is printed: a value, or the name of an exception.
CODE = """
import io, json, os, sys
from pathlib import Path
from vramcast.sandbox import written_files

here, scratch = map(Path, sys.argv[1:])
os.chdir(here)
written_files.install(scratch)
lines = [line for line in sys.stdin.read().splitlines() if line]
found = []
for line in lines:
    try:
        found.append(eval(line))
    except Exception as failure:
        found.append(type(failure).__name__)
print(json.dumps([one if isinstance(one, (list, int, str, bool, type(None))) else str(one)
                  for one in found]))
"""
EXPECTED = [
    # what is here, and nothing else
    ("sorted(os.listdir())", ["folder", "here.txt"]),
    ("sorted(os.listdir('folder'))", ["old.txt"]),
    # a new file, and the folder then
    ("open('new.txt', 'x').write('new')", 3),
    ("open('new.txt').read()", "new"),
    ("sorted(os.listdir())", ["folder", "here.txt", "new.txt"]),
    ("sorted(os.listdir(b'.')) == [b'folder', b'here.txt', b'new.txt']", True),
    ("sorted(entry.name for entry in os.scandir('.'))", ["folder", "here.txt", "new.txt"]),
    # "x" is for files that are not there: neither here, nor written
    ("open('new.txt', 'x')", "FileExistsError"),
    ("open('here.txt', 'x')", "FileExistsError"),
    ("open('folder', 'x')", "FileExistsError"),
    ("io.open('here.txt', 'xb')", "FileExistsError"),
    ("os.open('here.txt', os.O_WRONLY | os.O_CREAT | os.O_EXCL)", "FileExistsError"),
    ("Path('here.txt').touch(exist_ok=False)", "FileExistsError"),
    ("Path('here.txt').read_text()", "old"),
    # and once it is removed, it is not
    ("os.remove('here.txt')", None),
    ("sorted(os.listdir())", ["folder", "new.txt"]),
    ("open('here.txt')", "FileNotFoundError"),
    ("open('here.txt', 'x').write('again')", 5),
    ("open('here.txt', 'x')", "FileExistsError"),
    ("sorted(os.listdir())", ["folder", "here.txt", "new.txt"]),
    # what is here stays in a file that is appended to, or changed
    ("open('folder/old.txt', 'a').write('+')", 1),
    ("open('folder/old.txt').read()", "old+"),
    ("open('folder/old.txt', 'r+').write('O')", 1),
    ("open('folder/old.txt').read()", "Old+"),
    ("open('folder/old.txt', 'w').write('')", 0),
    ("open('folder/old.txt').read()", ""),
    # folders
    ("open('none/new.txt', 'x')", "FileNotFoundError"),
    ("os.mkdir('folder')", "FileExistsError"),
    ("os.makedirs('folder/a/b')", None),
    ("sorted(os.listdir('folder'))", ["a", "old.txt"]),
    ("sorted(os.listdir('folder/a'))", ["b"]),
    ("os.listdir('here.txt')", "NotADirectoryError"),
    ("os.listdir('none')", "FileNotFoundError"),
    ("os.rmdir('folder')", "OSError"),
    ("os.rmdir('folder/a/b')", None),
    ("sorted(os.listdir('folder/a'))", []),
]


def test_written_files_lie_over_those_that_are_here(tmp_path):
    here, scratch = tmp_path / "here", tmp_path / "scratch"
    (here / "folder").mkdir(parents=True)
    scratch.mkdir()
    (here / "here.txt").write_text("old")
    (here / "folder/old.txt").write_text("old")
    code = CODE.replace("sys.stdin.read()", repr("\n".join(line for line, _ in EXPECTED)))
    process = run("-c", code, str(here), str(scratch))
    assert process.returncode == 0, process.stderr
    for (line, expected), found in zip(EXPECTED, json.loads(process.stdout), strict=True):
        assert found == expected, line
    assert sorted(path.name for path in here.iterdir()) == ["folder", "here.txt"]
    assert (here / "here.txt").read_text() == (here / "folder/old.txt").read_text() == "old"
