"""Results files: what is kept, what stays, and what is said of one that is damaged or missing."""

import math
import multiprocessing
import os
import subprocess
from pathlib import Path

import pytest

from ladder import rows, steps
from ladder.pages.generate import pages
from ladder.rungs import ROOT, read_ladder, strays
from ladder.scripts import UnknownScript, find_scripts
from tests import warm
from tests.helpers import HANG
from vramcast.command import files
from vramcast.kinds import KINDS
from vramcast.processes.supervisor import write_json
from vramcast.run import source

FIRST, SECOND, LAST = "01_pytorch-fp32.py", "02_mixed-precision.py", "bonus_bigbird.py"


def row(script: str, **more: object) -> dict:
    return {"script": script} | more


def test_rows_are_merged_in_the_ladders_order_and_new_ones_count(tmp_path):
    own = tmp_path / "own.py"
    own.write_text("")
    old = [row(LAST, a=1), row(SECOND, a=1), row("99_gone.py")]
    new = [row(str(own)), row(SECOND, a=2), row(FIRST)]
    assert rows.merge(old, new) == [row(FIRST), row(SECOND, a=2), row(LAST, a=1), row(str(own))]


def test_kept_rows_stay_and_hold_numbers_alone(tmp_path):
    file = tmp_path / "rows.json"
    rows.keep([row(SECOND, loss=math.nan, gb=1.5, more=math.inf, text="nan")], file)
    rows.keep([row(FIRST)], file)
    assert rows.read(file) == [row(FIRST), row(SECOND, loss=None, gb=1.5, more=None, text="nan")]
    assert file.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_users_own_draft_stays_and_no_other_is_left(tmp_path):
    own = tmp_path / "rows.draft"
    own.write_text("mine")
    rows.keep([row(FIRST)], tmp_path / "rows.json")
    assert own.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.draft", "rows.json"]


def test_what_cannot_be_written_leaves_what_is_there(tmp_path):
    file = tmp_path / "rows.json"
    rows.keep([row(FIRST)], file)
    with pytest.raises(TypeError):
        write_json([object()], file)
    assert rows.read(file) == [row(FIRST)]
    assert list(tmp_path.iterdir()) == [file]


def keep_many(file, script: str, names: list[str]) -> None:
    for name in names:
        rows.keep([row(script, name=name), row(str(ROOT / name))], file)


def test_two_commands_keep_rows_in_one_file(tmp_path):
    file, scripts = tmp_path / "rows.json", [rung.script for rung in read_ladder()]
    fork = multiprocessing.get_context("fork")
    halves = [fork.Process(target=keep_many, args=(file, FIRST, scripts[k::2])) for k in (0, 1)]
    for process in halves:
        process.start()
    for process in halves:
        process.join(HANG)
    assert [process.exitcode for process in halves] == [0, 0]
    assert len(rows.read(file)) == 1 + len(scripts)


BAD = ["[1", "my notes", "[1]", "[{}]", '{"a": 1}', '[{"script": "a", "gb": NaN}]', "[" * 10**5]


@pytest.mark.parametrize("content", [*BAD, b'[{"script": "\xff"}]'])
def test_a_file_that_holds_no_rows_is_told_in_a_sentence(tmp_path, content):
    file = tmp_path / "rows.json"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    for ask in (rows.check, rows.read, rows.by_script):
        with pytest.raises(rows.Damaged) as told:
            ask(file)
        assert str(file) in str(told.value)
        assert "move it away" in str(told.value).lower()
    with pytest.raises(rows.Damaged):
        rows.keep([row(FIRST)], file)


def test_what_is_no_regular_file_is_neither_waited_for_nor_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    for path in (tmp_path / "pipe.json", Path("/dev/null")):
        with pytest.raises(rows.Damaged, match=f"{path} is no file of rows"):
            rows.check(path)
        with pytest.raises(rows.Damaged):
            rows.keep([row(FIRST)], path)
    assert not Path("/dev/null").is_file()


def test_a_text_that_python_cannot_compile_imports_nothing():
    for text in ("-" * 10**5 + "1", "1" + "+1" * 10**5, "a\0b", "def f(:", "(" * 1000):
        assert source.imported(text.encode()) == set()
        assert source.loops(text.encode()) == {}
        assert source.places(text.encode(), 1) == []


def test_a_file_that_can_be_kept_is_not_touched_by_the_check(tmp_path):
    rows.check(tmp_path / "new" / "rows.json")
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"file/rows\.json cannot be written"):
        rows.check(tmp_path / "file" / "rows.json")
    assert rows.read(tmp_path / "nothing.json") == []
    assert rows.by_script(tmp_path / "nothing.json") == {}


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """A copy of results/, in the place of what is recorded."""
    results = tmp_path / "results"
    subprocess.run(["cp", "-r", ROOT / "results", results], check=True)
    monkeypatch.setattr(rows, "ROOT", tmp_path)
    monkeypatch.setattr("ladder.fits.RESULTS", results)
    return results


@pytest.mark.parametrize("content", [None, "[", "[]", "3", '[{"a": 1}]'])
def test_a_recorded_file_that_is_damaged_or_missing_is_no_answer(recorded, content, capsys):
    """Above all not "the first that fits: none"."""
    from ladder import fits
    from vramcast import gpus
    from vramcast.processes.entry import NoAnswer

    file = recorded / "predicted.json"
    file.unlink()
    if content is not None:
        file.write_text(content)
    with pytest.raises(NoAnswer) as told:
        fits.show(gpus.find("8"))
    assert str(file) in str(told.value)
    assert "git checkout results/predicted.json" in str(told.value)
    assert "fits" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["combining", "others", "versions", "public_scripts", "steps"])
def test_pages_say_which_file_is_damaged(recorded, name, monkeypatch):
    (recorded / f"{name}.json").write_text("[{")
    monkeypatch.setattr("ladder.pages.generate.ROOT", recorded.parent)
    (recorded.parent / "docs").symlink_to(ROOT / "docs")
    (recorded.parent / "README.md").symlink_to(ROOT / "README.md")
    with pytest.raises(rows.Damaged, match=rf"{name}\.json is damaged"):
        pages()


def test_a_file_of_ones_own_with_a_number_is_no_rung(tmp_path):
    rung = b'"""A.\n\nBuilds on: nothing\n\nB.\n\nRun: python 01_a.py\n"""\n'
    for name, text in (("01_a.py", rung), ("99_mine.py", b"x = 1\n"), ("98_no.py", b"\xff")):
        (tmp_path / name).write_bytes(text)
    (tmp_path / "97_folder.py").mkdir()
    (tmp_path / "96_link.py").symlink_to("96_link.py")
    assert strays(tmp_path) == ["96_link.py", "97_folder.py", "98_no.py", "99_mine.py"]


@pytest.mark.parametrize("name", ["a" * 300, "[a-z]*", "**", "\0", "a/" * 3000, ".."])
def test_a_name_that_is_none_of_a_script_is_told(name):
    with pytest.raises(UnknownScript):
        find_scripts([name])


def test_a_row_that_cannot_be_kept_is_shown_and_told(tmp_path):
    """As on a disk that is full by then: here the results file becomes none of rows meanwhile."""
    script, results = tmp_path / "script.py", tmp_path / "rows.json"
    script.write_text(
        f"open({str(results)!r}, 'w').write('full')\nraise ValueError('of the script')"
    )
    process = warm.run("rehearse.py", script, "--results", results)
    assert process.returncode == 2
    assert "\nscript.py " in process.stdout
    assert "ValueError: of the script" in process.stdout
    assert "No row was kept." in process.stdout
    assert f"Not kept: the row of {script}: " in process.stderr
    assert "Traceback" not in process.stderr


def test_where_a_picture_may_go(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.png").mkdir()
    files.check_file(Path("step.png"), [".png", ".svg"])
    files.check_file(tmp_path / "STEP.SVG", [".png", ".svg"])
    assert [path.name for path in tmp_path.iterdir()] == ["folder.png"]  # only looked at
    for wrong, told in (
        ("step.pdf", "step.pdf has to end in one of: .png, .svg"),
        ("step", "has to end in one of"),
        ("folder.png", "folder.png cannot be written"),
        ("no/step.png", "no/step.png cannot be written"),
    ):
        with pytest.raises(ValueError, match=told):
            files.check_file(Path(wrong), [".png", ".svg"])
    monkeypatch.setattr(files.os, "access", lambda folder, how: how != os.W_OK)
    with pytest.raises(ValueError, match="cannot be written"):
        files.check_file(Path("step.png"), [".png"])


def course(*totals: int) -> dict:
    """A step whose parameters take so many MB, in two phases."""
    half = len(totals) // 2
    points = [
        [
            "forward" if place < half else "backward",
            dict.fromkeys(KINDS, 0) | {"parameters": 1e6 * total},
        ]
        for place, total in enumerate(totals)
    ]
    return {"course": points, "peak": {"place": max(range(len(totals)), key=totals.__getitem__)}}


def test_a_step_that_is_shortened_keeps_ends_phases_extremes_and_peak():
    totals = [100 + place % 7 for place in range(5000)]
    totals[0], totals[1111], totals[3333], totals[4999] = 50, 900, 3, 70
    short = steps.shorten(course(*totals))
    found = {place: sizes[list(KINDS).index("parameters")] for place, sizes in steps.points(short)}
    assert all(totals[place] == size for place, size in found.items())
    assert {0, 1111, 2499, 2500, 3333, 4999} <= found.keys()
    assert short["length"] == 5000
    assert short["phases"] == [[0, "forward"], [2500, "backward"]]
    assert short["peak"]["place"] == 1111
    assert list(found) == sorted(found)
    assert steps.PARTS < len(found) <= 2 * steps.PARTS + 6
    for part in range(steps.PARTS):  # each part has its highest and its lowest point
        places = range(part * 5000 // steps.PARTS, (part + 1) * 5000 // steps.PARTS)
        sizes = [found[place] for place in places if place in found]
        assert max(sizes) == max(totals[place] for place in places)
        assert min(sizes) == min(totals[place] for place in places)


def test_a_short_step_stays_whole_and_an_empty_one_empty():
    assert steps.shorten({}) == {}
    short = steps.shorten(course(1, 2, 3, 2))
    assert [place for place, _ in steps.points(short)] == [0, 1, 2, 3]
