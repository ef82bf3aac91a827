"""One rehearsal of the whole ladder, which several tests look at."""

import json
import os

# before PyTorch is imported: see `rehearsal/hardware.py` on threads of a busy machine
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from tests.helpers import ASLEEP, run


@pytest.fixture(scope="session")
def rehearsed(tmp_path_factory) -> dict[str, dict]:
    """The rows of a rehearsal of all scripts, by script."""
    results = tmp_path_factory.mktemp("rehearsal") / "rehearsed.json"
    process = run("rehearse.py", "--results", str(results), timeout=ASLEEP)
    assert process.returncode == 0, process.stdout + process.stderr
    return {row["script"]: row for row in json.loads(results.read_text())}
