"""Rows of results/ made anew: those whose fingerprint has changed (see ladder/fingerprints.py).

With ALL=1 in the environment (make test-all, and CI), that is all of them.
"""

import os
from pathlib import Path

from ladder import fingerprints
from ladder.rows import by_script
from ladder.rungs import ROOT, read_ladder
from tests.helpers import ASLEEP, run


def rows_anew(kind: str, folder: Path, *command: str) -> dict[str, dict]:
    """The rows of a results file, by script, as the present code makes them.

    Only what has changed since a row was recorded is run, by this command. AssertionError if it
    fails.
    """
    recorded = by_script(ROOT / "results" / f"{kind}.json")
    known = by_script(ROOT / "results" / "published.json")
    scripts = [rung.script for rung in read_ladder()]
    if kind == "predicted_2023":
        scripts = [script for script in scripts if script in known]
    changed = [script for script in scripts if has_changed(script, kind, recorded.get(script))]
    made = {}
    if changed:
        results = folder / f"{kind}.json"
        process = run(*command, *changed, "--results", str(results), timeout=ASLEEP)
        assert process.returncode == 0, process.stdout + process.stderr
        assert all(script.rpartition("/")[2] in process.stdout for script in changed)
        made = by_script(results)
    return {script: made.get(script) or recorded[script] for script in scripts}


def has_changed(script: str, kind: str, row: dict | None) -> bool:
    """Whether a script's row has to be made anew."""
    if row is None or os.environ.get("ALL"):
        return True
    return row.get("fingerprint") != fingerprints.of(ROOT / script, kind)
