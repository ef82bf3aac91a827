"""What several tests share."""

import os
import subprocess
import sys
import time
from collections.abc import Callable

from ladder.rungs import ROOT

HANG = 900  # seconds after which a test takes something for hanging: no limit on what is slow
ASLEEP = 4 * HANG  # seconds that a process sleeps which a test expects to be ended


def run(*command: str, timeout: float = HANG, **environment: str) -> subprocess.CompletedProcess:
    """Run a Python command from the repository's root and capture its output as text."""
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait as long as it takes; AssertionError if it seems to hang."""
    deadline = time.monotonic() + HANG
    while not condition():
        assert time.monotonic() < deadline, f"still waiting after {HANG} s"
        time.sleep(0.1)


def alive(pid: str) -> bool:
    """Whether a process runs; one that has ended but was not yet waited for does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", pid], capture_output=True, text=True).stdout
    return bool(state.strip()) and not state.startswith("Z")
