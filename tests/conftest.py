"""What several tests share: running commands, and one rehearsal of the whole ladder."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.fixture(scope="session")
def rehearsed(tmp_path_factory) -> dict[str, dict]:
    """The rows of a rehearsal of all scripts, by script."""
    results = tmp_path_factory.mktemp("rehearsal") / "rehearsed.json"
    process = run("rehearse.py", "--results", str(results), timeout=700)
    assert process.returncode == 0, process.stdout + process.stderr
    return {row["script"]: row for row in json.loads(Path(results).read_text())}
