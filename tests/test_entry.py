"""How commands end that cannot answer: with status 2 and a sentence, and never with status 1."""

import ast
import os
import subprocess
import sys

import pytest

from ladder.rungs import ROOT
from tests.helpers import HANG
from vramcast.processes import entry, launchers

HEAD = "import sys\nfrom vramcast.processes.entry import NoAnswer, as_command\ndef main():\n"
ALL = HEAD + "    return 0\nas_command(main)\n"


def command(text: str, redirected: str = "", **environment: str) -> subprocess.CompletedProcess:
    """Run a small command, with its streams redirected as a shell has it."""
    program = HEAD + f"    {text}\n    return 0\nas_command(main)\n"
    return subprocess.run(
        ["bash", "-c", f'"$0" -c "$1" {redirected}', sys.executable, program],
        cwd=ROOT, capture_output=True, text=True, timeout=HANG,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""} | environment,
    )  # fmt: skip


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    ("text", "redirected", "told"),
    [
        ("print('yes')", ">&-", "Standard output is closed"),
        ("print('yes')", ">/dev/full", "standard output"),
        ("raise ValueError('of ours')", "", "this is a fault of the command"),
        ("raise NoAnswer('The file is gone.')", "", "The file is gone."),
        ("raise OSError(28, 'No space left', 'rows.json')", "", "No space left: 'rows.json'"),
        ("sys.exit('a sentence')", "", "a sentence"),
        ("open('/dev/full', 'wb', 0).write(b'x')", "", "No space left"),
    ],
)
def test_what_is_no_answer_is_status_2_and_a_sentence(text, redirected, told, unbuffered):
    process = command(text, redirected, PYTHONUNBUFFERED=unbuffered)
    assert process.returncode == 2
    assert told in process.stderr.splitlines()[-1]
    assert ("Traceback" in process.stderr) == ("of ours" in text)


def test_a_working_directory_that_is_gone_is_told(tmp_path):
    process = subprocess.run(
        ["bash", "-c", 'cd "$0" && rmdir "$0" && "$1" -c "$2"', tmp_path, sys.executable, ALL],
        capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr == "The working directory has been removed: change to another one.\n"


def test_nobody_who_reads_is_no_error_and_no_answer():
    text = "[print('x' * 200_000, flush=True) for _ in range(2)]"
    process = command(text, "| true; exit ${PIPESTATUS[0]}")
    assert (process.returncode, process.stderr) == (2, "")


@pytest.mark.parametrize("redirected", ["2>&-", "2>/dev/full", "<&-", "<&- 2>&-"])
def test_without_standard_error_or_input_there_is_an_answer(redirected):
    """What is opened then does not get the number of a stream that is closed."""
    process = command("print(open('/dev/null').fileno() > 2)", redirected)
    assert (process.returncode, process.stdout) == (0, "True\n")


def test_an_answer_keeps_its_status():
    assert command("return 1").returncode == 1
    assert command("sys.exit(1)").returncode == 1
    assert command("raise KeyboardInterrupt").returncode == 130


@pytest.mark.parametrize("way", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}])
def test_a_terminal_without_a_character_gets_its_escape(way):
    process = command("print('2 \\u00d7 \\u2026 \\udcff')", **way)
    assert process.returncode == 0, process.stderr
    assert process.stdout in ("2 \\xd7 \\u2026 \\udcff\n", "2 × … \\udcff\n")


def test_two_dashes_are_no_value(capsys):
    parser = entry.Parser(prog="command")
    parser.add_argument("--size", type=int)
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(["--size=--"])
    assert ended.value.code == 2
    assert "argument --size: expected one argument" in capsys.readouterr().err
    assert parser.parse_args(["--size=3"]).size == 3


def test_a_python_with_a_safe_path_finds_the_rehearsal():
    process = subprocess.run(
        [sys.executable, "-P", ROOT / "rehearse.py", "--help"],
        cwd="/", capture_output=True, text=True,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr


OLD = "import sys; sys.version_info = (3, 10, 4, 'final', 0); sys.argv[1:] = []; import runpy\n"


@pytest.mark.parametrize(
    ("start", "status"),
    [
        ("runpy.run_module('vramcast', run_name='__main__')", 2),
        ("runpy.run_path('rehearse.py', run_name='__main__')", 2),
        ("runpy.run_module('ladder.predict', run_name='__main__')", 2),
        ("runpy.run_module('ladder.pages', run_name='__main__')", 2),
        ("import local_utilities", 1),
    ],
)
def test_an_old_python_is_told_first(start, status):
    process = subprocess.run(
        [sys.executable, "-c", OLD + start], cwd=ROOT, capture_output=True, text=True
    )
    assert process.returncode == status
    assert process.stderr.startswith("Python 3.11 or newer is needed, and this is ")
    assert len(process.stderr.splitlines()) == 1


def test_an_old_python_can_read_so_far():
    """What is compiled until then has no syntax of today."""
    for name in ("vramcast/__init__.py", "ladder/__init__.py", "rehearse.py", "local_utilities.py"):
        ast.parse((ROOT / name).read_text(), feature_version=(3, 7))
    first = ast.parse((ROOT / "ladder/__init__.py").read_text()).body[1]
    assert [alias.name for alias in first.names] == ["vramcast"]


def test_what_a_launcher_told_is_forgotten():
    left = {
        "RANK": "0", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "a", "MASTER_PORT": "1",
        "NODE_RANK": "0", "GROUP_WORLD_SIZE": "1", "TORCHELASTIC_RUN_ID": "none", "PMI_SIZE": "2",
        "SLURM_NTASKS": "2", "SLURM_PROCID": "0", "OMPI_COMM_WORLD_SIZE": "2", "LT_DEVICES": "2",
    }  # fmt: skip
    kept = {"PATH": "/bin", "FRANK": "x", "OMP_NUM_THREADS": "1", "MY_RANK": "2", "RANKS": "3"}
    environment = left | kept
    assert launchers.forget(environment) == sorted(left)
    assert environment == kept
