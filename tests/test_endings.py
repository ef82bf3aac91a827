"""How both commands end: whatever ends them, nothing that they started is left, here on Linux."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from ladder.rungs import ROOT
from tests import warm
from tests.helpers import ASLEEP, HANG, run, wait_until
from tests.test_rehearse import STEP
from vramcast.processes import supervisor as processes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc and prctl are Linux's")

ENDLESS = f"{STEP}print('running', flush=True)\nwhile True: pass\n"
STUBBORN = (  # two processes, and a child of one that does not end when it is asked to
    "import subprocess, sys, time\nfrom lightning import Fabric\n"
    "fabric = Fabric(strategy='fsdp', devices=2)\nfabric.launch()\n"
    "if fabric.global_rank: subprocess.Popen([sys.executable, '-c', 'import signal, time; "
    'signal.signal(signal.SIGTERM, signal.SIG_IGN); print("running", flush=True); '
    f"time.sleep({ASLEEP})'], start_new_session=True)\n"
    f"time.sleep({ASLEEP})\n"
)


class Started:
    """A command in a session of its own, whose processes are known by their environment."""

    def __init__(self, folder: Path, *command: str) -> None:
        self.temporary, self.log = folder / "tmp", folder / "log.txt"
        self.temporary.mkdir(exist_ok=True)
        self._mark = f"STARTED_BY_TEST={folder}-{time.monotonic_ns()}"
        self.environment = {
            "TMPDIR": str(self.temporary),
            "CUDA_VISIBLE_DEVICES": "",
            "PYTHONPATH": f"{folder}:{ROOT}",
        }
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, *command],
                cwd=ROOT,
                env=os.environ | self.environment | dict([self._mark.split("=")]),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def left(self) -> list[int]:
        """The processes of the command that run, itself included."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:  # what has ended has no environment
                if self._mark.encode() in folder.joinpath("environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
            except OSError:
                pass
        return found

    def wait_for_end(self) -> None:
        """Until none of its processes runs."""
        wait_until(lambda: not self.left())

    def wait_for(self, what: str) -> None:
        """Until the output has a text, or the temporary folder a file of this pattern."""
        wait_until(
            lambda: (
                self.process.poll() is not None
                or what in self.log.read_text()
                or list(self.temporary.glob(what))
            )
        )
        assert self.process.poll() is None, self.log.read_text()


@contextmanager
def started(folder: Path, *command: str):
    """A command of which nothing is left in the end."""
    running = Started(folder, *command)
    try:
        yield running
    finally:
        for pid in running.left():
            os.kill(pid, signal.SIGKILL)
        running.process.wait()


IMPORTING = {"rehearse.py": "*rehearsal-*", "-m vramcast": "*prediction-*"}
MOMENTS = {  # in the life of each command: a script, none for the ladder, and what to wait for
    "rehearse.py": [(STEP, IMPORTING["rehearse.py"]), (STUBBORN, "running")],
    "-m vramcast": [(STEP, IMPORTING["-m vramcast"]), (ENDLESS, "running")],
    "-m ladder.predict": [(None, "*prediction-*/output.txt")],
}  # fmt: skip


def words(command: str, folder: Path, script: Path | None) -> list[str]:
    """A command line: with one script whose output is shown, or for the whole ladder."""
    kept = [] if "vramcast" in command else ["--results", str(folder / "rows.json")]
    shown = [] if "ladder" in command or script is None else ["--show"]
    return [*command.split(), *kept, *shown, *([str(script)] if script else [])]


@pytest.mark.parametrize("command", MOMENTS)
def test_a_command_that_is_killed_leaves_nothing(tmp_path, command):
    script = tmp_path / "script.py"
    for text, sign in MOMENTS[command]:
        script.write_text(text or "")
        with started(tmp_path, *words(command, tmp_path, text and script)) as it:
            it.wait_for(sign)
            assert len(it.left()) >= 3  # itself, the fork server, multiprocessing's tracker
            it.process.kill()
            it.wait_for_end()
    script.write_text("raise ValueError")
    warm.run(*words(command, tmp_path, script), **it.environment)
    assert list(it.temporary.iterdir()) == []


def test_a_command_that_is_killed_takes_an_endless_import_with_it(tmp_path):
    """The fork server is killed; it does not end by itself once it has imported."""
    text = "print('running', flush=True)\nwhile True: pass\n"
    tmp_path.joinpath("endless_import.py").write_text(text)
    program = (
        "import time; from vramcast.processes.supervisor import start_forkserver\n"
        f"start_forkserver('endless_import'); time.sleep({ASLEEP})\n"
    )
    with started(tmp_path, "-c", program) as it:
        it.wait_for("running")
        it.process.kill()
        it.wait_for_end()


@pytest.mark.parametrize("seconds", [0, 1, 3])
@pytest.mark.parametrize("command", IMPORTING)
def test_ctrl_c_while_modules_are_imported_shows_no_traceback(tmp_path, command, seconds):
    """It reaches all processes of the terminal's foreground group."""
    script = tmp_path / "script.py"
    script.write_text(ENDLESS)
    with started(tmp_path, *words(command, tmp_path, script)) as it:
        it.wait_for(IMPORTING[command])
        time.sleep(seconds)
        os.killpg(it.process.pid, signal.SIGINT)
        assert it.process.wait(timeout=HANG) == 130
        it.wait_for_end()
        output = it.log.read_text()
        assert "Stopped." in output
        assert "Traceback" not in output
        assert list(it.temporary.iterdir()) == []


def test_what_a_process_sends_and_how_it_ended():
    process = run("-m", "tests.probes.processes")
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    assert process.stdout.splitlines() == [
        "sends [1, [2]] and ends with 3",
        "not listened to, it ends with 3",
        "ended by a signal: -11",
        "asked to end, it does so by itself: True",
        "or is ended: -9",
        "its time is over: TooLong",
        "its keeper is killed: -9, ended",
        "two are ended from another thread: Ended, Ended",
        "none starts after that: Ended",
    ]


def test_a_process_that_kills_all_above_it_but_the_command_leaves_nothing():
    process = run("-m", "tests.probes.processes", "above")
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines() == ["they are killed: -9", "after the command's end: ended"]


def test_folders_of_dead_commands_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(processes.tempfile, "tempdir", str(tmp_path))
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    dead, other, alive, elsewhere = (
        tmp_path / name
        for name in (
            f"vramcast-probe-{child.pid}-abcd_123", f"other-{child.pid}-abcd_123",
            f"vramcast-probe-{os.getppid()}-abcd_123", f"vramcast-probe-{child.pid}-elsewher",
        )
    )  # fmt: skip
    mine = tmp_path / f"vramcast-probe-{child.pid}-results"  # which somebody gave this name
    crafted = tmp_path / f"vramcast-probe-{10**30}-abcd_123"  # no process has such a number
    for folder in (dead, other, alive, elsewhere, mine, crafted):
        folder.mkdir()
        folder.joinpath("file").write_text("")
    lock = os.open(elsewhere, os.O_RDONLY)
    processes.fcntl.flock(lock, processes.fcntl.LOCK_EX)  # as by a command in another container
    with processes.scratch_folder("probe-") as own:
        assert own.is_relative_to(tmp_path)
        assert sorted(tmp_path.iterdir()) == sorted([other, alive, elsewhere, mine, crafted, own])
        with processes.scratch_folder("probe-"):
            assert own.exists()
    assert sorted(tmp_path.iterdir()) == sorted([other, alive, elsewhere, mine, crafted])
    os.close(lock)


def test_thousands_of_folders_in_a_row_are_removed(tmp_path, monkeypatch):
    """Python's own function fails on them, and the next command on what is left."""
    monkeypatch.setattr(processes.tempfile, "tempdir", str(tmp_path))
    with processes.scratch_folder("probe-") as folder:
        descriptor = os.open(folder, os.O_RDONLY)
        for _ in range(2 * sys.getrecursionlimit()):
            os.mkdir("d", dir_fd=descriptor)
            below = os.open("d", os.O_RDONLY, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        os.close(descriptor)
    assert list(tmp_path.iterdir()) == []


def test_nohup_keeps_its_meaning():
    program = (
        "import signal; from vramcast.processes.entry import end_as_after_ctrl_c\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN); end_as_after_ctrl_c()\n"
        "print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN)\n"
    )
    assert run("-c", program).stdout == "True\n"
