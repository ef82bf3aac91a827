"""Commands in processes forked from one that has imported PyTorch, which takes seconds each time.

For tests that look at what a command answers. How commands start and end is for `helpers.run`.
"""

import json
import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from jsonschema import Draft202012Validator

from ladder.rungs import ROOT
from tests.helpers import HANG
from vramcast.processes import supervisor as processes

SERVER = multiprocessing.get_context("forkserver")
FORM = Draft202012Validator(json.loads((ROOT / "vramcast" / "answer.schema.json").read_text()))
IMPORTED = (
    "torch",
    "torchvision",
    "lightning",
    "torchmetrics",
    "vramcast.run.script",
    "rehearsal.run",
)


class Ended(subprocess.CompletedProcess):
    """How a command ended, which was the first process of the session `pid`."""

    pid: int


def run(*command: object, timeout: float = HANG, **environment: str) -> Ended:
    """`helpers.run`, from there: `-m MODULE …`, `-c CODE …` or `FILE …`; TimeoutExpired."""
    (result,) = run_all([command], [environment], timeout)
    return result


def predict(*arguments: object, **environment: str) -> Ended:
    """Run vramcast; what it prints with --json has the form that its schema describes."""
    process = run("-m", "vramcast", *arguments, **environment)
    if "--json" in arguments and process.stdout:
        FORM.validate(json.loads(process.stdout))
    return process


def predicted(*arguments: object, **environment: str) -> dict:
    """The object that `vramcast --json` prints for a script that fits."""
    process = predict("--json", *arguments, **environment)
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


def run_all(
    commands: list[tuple], environments: list[dict[str, str]], timeout: float = HANG
) -> list[Ended]:
    """Several of them at a time."""
    with tempfile.TemporaryDirectory() as folder:
        started = [
            Running(command, environment, Path(folder, str(number)))
            for number, (command, environment) in enumerate(zip(commands, environments))
        ]
        try:
            return [command.wait(timeout) for command in started]
        finally:
            for command in started:
                command.process.kill()


class Running:
    """A command that runs, as in `run`; what it prints goes to files beside `outputs`."""

    def __init__(self, command: tuple, environment: dict[str, str], outputs: Path) -> None:
        SERVER.set_forkserver_preload(list(IMPORTED))
        self.words, self.outputs = list(map(str, command)), outputs
        self.process = SERVER.Process(target=_become, args=(self.words, environment, outputs))
        self.process.start()

    def wait(self, timeout: float = HANG) -> Ended:
        """How it ended. Raises TimeoutExpired if it has not."""
        self.process.join(timeout)
        if self.process.exitcode is None:
            raise subprocess.TimeoutExpired(self.words, timeout)
        texts = [self.outputs.with_suffix(name).read_text() for name in (".out", ".err")]
        ended = Ended(self.words, self.process.exitcode, *texts)
        ended.pid = self.process.pid
        return ended


def torchrun(ranks: int, *command: object, nodes: int = 1, **environment: str) -> list[Ended]:
    """What torchrun starts, on each of the nodes as many, but without its launcher.

    What it tells each process is told. Unlike torchrun, it lets the others go on when one fails.
    """
    each = ranks // nodes
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "none"}
    shared |= {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(each)}
    shared |= {"GROUP_WORLD_SIZE": str(nodes)} | environment
    places = [
        {"RANK": str(rank), "LOCAL_RANK": str(rank % each), "GROUP_RANK": str(rank // each)}
        for rank in range(ranks)
    ]
    return run_all([command] * ranks, [shared | place for place in places])


def _become(command: list[str], environment: dict[str, str], outputs: Path) -> None:
    """In the forked process: be `python command`, in a session of its own."""
    os.setsid()
    for stream, name in ((1, ".out"), (2, ".err")):
        os.dup2(os.open(outputs.with_suffix(name), os.O_CREAT | os.O_WRONLY), stream)
    os.environ |= {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)} | environment
    os.chdir(ROOT)
    multiprocessing.set_start_method(None, force=True)  # as in a new process
    tempfile.tempdir = None
    # a command forks its scripts from a process that has imported PyTorch: it is one
    processes.PROCESSES = multiprocessing.get_context("fork")
    processes.start_forkserver = lambda *preload: None
    if command[0] == "-m":
        sys.argv, sys.path[0] = command[1:], str(ROOT)
        runpy.run_module(command[1], run_name="__main__", alter_sys=True)
    elif command[0] == "-c":
        sys.argv, sys.path[0] = ["-c", *command[2:]], str(ROOT)
        exec(command[1], {"__name__": "__main__"})
    else:
        path = ROOT / command[0]
        sys.argv, sys.path[0] = command, str(path.parent)
        sys.path.insert(1, str(ROOT))
        runpy.run_path(str(path), run_name="__main__")
