"""What several tests share."""

import os
import subprocess
import sys

from stand_ins.ladder import ROOT


def run(*command: str, timeout: float = 300, **environment: str) -> subprocess.CompletedProcess:
    """Run a Python command from the repository's root and capture its output as text."""
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def alive(pid: str) -> bool:
    """Whether a process runs; one that has ended but was not yet waited for does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", pid], capture_output=True, text=True).stdout
    return bool(state.strip()) and not state.startswith("Z")
