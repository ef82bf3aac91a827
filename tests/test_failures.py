"""Several processes when something is wrong: a clear message, and none of them stays behind."""

import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from ladder.rungs import ROOT
from tests import warm
from tests.helpers import ASLEEP, alive, run, wait_until
from tests.warm import torchrun

SHARDED = ROOT / "08-10-vit-h14" / "08a_fsdp-defaults.py"
TRAINING = "        for images, labels in progress:\n"


@contextmanager
def started(*command: str, output=subprocess.PIPE, **environment: str):
    """A command in a session of its own, of which nothing is left in the end."""
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)} | environment,
        stdout=output,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if members(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def members(session: int) -> list[str]:
    """The processes of a session that run."""
    found = subprocess.run(
        ["ps", "-o", "pid=", "-s", str(session)], capture_output=True, text=True
    ).stdout.split()
    return [pid for pid in found if alive(pid)]


def broken(tmp_path, where: str, what: str) -> str:
    """A copy of a script for several GPUs, with a line that breaks some of its ranks."""
    text = SHARDED.read_text()
    assert where in text
    script = tmp_path / "broken.py"
    script.write_text(text.replace(where, where + what))
    return str(script)


def rehearsed(script: object, folder: Path, **environment: str) -> warm.Ended:
    """A rehearsal of a script; when it is over, all its processes have ended."""
    folders = {"DATA_DIR": str(folder), "RESULTS_DIR": str(folder)}
    process = warm.run("-m", "rehearsal.run", script, folder, **folders, **environment)
    try:
        wait_until(lambda: not members(process.pid))
    finally:
        if members(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
    return process


CASES = {
    "the first rank raises": "if fabric.global_rank == 0: raise ValueError('too hot')",
    "the second rank raises": "if fabric.global_rank == 1: raise ValueError('too hot')",
    "the first raises while the second sleeps": (
        f"import time; time.sleep({ASLEEP} * fabric.global_rank); raise ValueError('too hot')"
    ),
    "the second raises while the first sleeps": (
        f"import time; time.sleep({ASLEEP} * (1 - fabric.global_rank)); raise ValueError('too hot')"
    ),
    "the second is killed while the first sleeps": (
        f"import os, time; time.sleep({ASLEEP} * (1 - fabric.global_rank)); os.kill(os.getpid(), 9)"
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_when_a_rank_dies_all_end(tmp_path, case):
    """Long before one that sleeps wakes up, or gloo gives up after half an hour."""
    line = f"            print('now', flush=True)\n            {CASES[case]}\n"
    process = rehearsed(broken(tmp_path, TRAINING, line), tmp_path)
    assert process.returncode != 0
    output = process.stdout + process.stderr
    assert "now\n" in output
    if "killed" in case:
        assert "terminated with code -9" in output
    else:
        assert "ValueError: too hot" in output


def test_too_few_gpus_are_told_once_and_nothing_starts(tmp_path):
    """Started as `python SCRIPT` and by torchrun, on a machine without GPUs."""
    told = "needs 2 CUDA GPUs, and PyTorch finds none here"
    process = warm.run(SHARDED, RESULTS_DIR=str(tmp_path))
    assert process.returncode == 1
    assert process.stderr.count(told) == 1
    assert "python rehearse.py 08-10-vit-h14/08a_fsdp-defaults.py" in process.stderr
    processes = torchrun(2, SHARDED, RESULTS_DIR=str(tmp_path))
    assert [process.returncode for process in processes] == [1, 1]
    assert sum(process.stderr.count(told) for process in processes) == 1
    (process,) = torchrun(1, SHARDED, RESULTS_DIR=str(tmp_path))
    assert process.returncode == 1
    assert "needs at least 2 processes, and torchrun started 1" in process.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def busy_port():
    """The number of a port at which somebody listens."""
    with socket.socket() as listener:
        listener.bind(("", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_port_in_use_is_told_and_nothing_is_left(tmp_path, busy_port):
    """PyTorch tells it, in one of the processes; the other ends with that one."""
    process = rehearsed(SHARDED, tmp_path, MASTER_PORT=str(busy_port))
    assert process.returncode == 1
    assert re.search(f"port: {busy_port}.*address already in use", process.stdout + process.stderr)


@pytest.mark.parametrize(
    ("script", "missing", "extra"),
    [
        ("bonus_bigbird.py", "transformers and datasets", "bonus"),
        ("bonus_distilbert-before.py", "transformers and datasets", "bonus"),
        ("bonus_distilbert-lora.py", "peft", "lora"),
        ("11-16-under-1gb/14_adamw-8bit.py", "torchao", "torchao"),
        ("11-16-under-1gb/14-2_adamw-4bit.py", "torchao", "torchao"),
        ("11-16-under-1gb/14-4_optimizer-offload.py", "torchao", "torchao"),
        ("11-16-under-1gb/15-2_lora-peft.py", "peft", "lora"),
        ("11-16-under-1gb/16_qlora.py", "bitsandbytes", "lora"),
    ],
)
def test_missing_packages_are_told(tmp_path, script, missing, extra):
    """With a Python that finds every package but these."""
    program = tmp_path / "program.py"
    program.write_text(
        "import importlib.machinery, importlib.metadata, runpy, sys\n"
        f"hidden = {missing.split(' and ')}\n"
        "def hide(owner, name, answer):\n"
        "    original = getattr(owner, name)\n"
        "    def found(cls, package, *args):\n"
        "        return answer(package) if package in hidden else original(package, *args)\n"
        "    setattr(owner, name, classmethod(found))\n"
        "def unknown(package):\n"
        "    raise importlib.metadata.PackageNotFoundError(package)\n"
        "hide(importlib.machinery.PathFinder, 'find_spec', lambda package: None)\n"
        "hide(importlib.metadata.Distribution, 'from_name', unknown)\n"
        "for package in hidden:\n"
        "    sys.modules.pop(package, None)\n"
        f"sys.argv, sys.path[0] = [{script!r}], {str((ROOT / script).parent)!r}\n"
        f"runpy.run_path({script!r}, run_name='__main__')\n"
    )
    process = warm.run(program)
    assert process.returncode == 1
    assert f"{missing} cannot be found" in process.stderr
    assert f'pip install ".[{extra}]"' in process.stderr
    assert "Traceback" not in process.stderr


def test_a_rank_that_raises_does_not_wait_for_the_others():
    """As NCCL would make it do, which cleans up at exit, and together with the other ranks."""
    program = (
        "import atexit, time, several_gpus\n"
        f"atexit.register(time.sleep, {ASLEEP})\n"
        "several_gpus.leave_at_once_on_error()\n"
        "raise ValueError('too hot')\n"
    )
    process = run("-c", program)
    assert process.returncode == 1
    assert "ValueError: too hot" in process.stderr


def test_when_the_first_process_is_killed_the_others_end(tmp_path):
    """By themselves: there is nobody left to end them."""
    program = tmp_path / "program.py"
    program.write_text(
        "import os, time, several_gpus\n"
        "several_gpus.end_with_first_process()\n"
        "if os.fork() == 0:\n"
        "    os.environ['LOCAL_RANK'] = '1'\n"
        "    several_gpus.end_with_first_process()\n"
        "    print('now', flush=True)\n"
        f"time.sleep({ASLEEP})\n"
    )
    log = tmp_path / "output.txt"
    with log.open("w") as file, started(str(program), output=file) as process:
        wait_until(lambda: log.read_text() == "now\n")
        assert len(members(process.pid)) == 2
        process.kill()
        wait_until(lambda: not members(process.pid))


def test_a_script_for_one_gpu_refuses_torchruns_many(tmp_path):
    """With torchrun itself, which ends as its processes do."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    process = warm.run(*launcher, "02_mixed-precision.py", RESULTS_DIR=str(tmp_path))
    assert process.returncode == 1
    assert "is for one GPU, and torchrun started 2 processes" in process.stderr


def test_two_nodes_train_together(tmp_path):
    """One process each, to which torchrun tells that it is the first on its machine."""
    command = ("-m", "tests.probes.ranks", SHARDED, tmp_path, "{}")
    folders = {"DATA_DIR": str(tmp_path), "RESULTS_DIR": str(tmp_path)}
    processes = torchrun(2, *command, nodes=2, **folders)
    outputs = [process.stdout + process.stderr for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    first, second = (torch.load(tmp_path / f"rank-{node}.pt") for node in range(2))
    assert first["parameters"] + second["parameters"] == first["whole"]
    assert first["losses"] == second["losses"]
    assert "Test accuracy" in outputs[0]
    assert "Test accuracy" not in outputs[1]
    assert len(tmp_path.joinpath("measured.jsonl").read_text().splitlines()) == 1
