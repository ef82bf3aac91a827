"""Results made anew: what has another fingerprint than is recorded (see ladder/fingerprints.py).

With SHARE=1 in the environment (make test-all), that is all of them. With SHARE=3 (CI), it is also
a third of the others, a different one after each change of the code: that of those whose
fingerprint can be divided by it.
"""

import json
import os
from pathlib import Path

from ladder import fingerprints
from ladder.rows import by_script
from ladder.rungs import ROOT
from tests.helpers import ASLEEP, run


def rows_anew(
    kind: str, scripts: list[str], folder: Path, *command: str, recorded: Path | None = None
) -> dict[str, dict]:
    """The rows of these scripts in a results file, as the present code makes them.

    Only those that have changed since they were recorded are made anew, by this command.
    `recorded`: the file, if its name is not that of the kind. AssertionError if the command fails.
    """
    recorded = by_script(recorded or ROOT / "results" / f"{kind}.json")
    changed = [script for script in scripts if has_changed(script, kind, recorded.get(script))]
    made = {}
    if changed:
        results = folder / f"{kind}.json"
        process = run(*command, *changed, "--results", str(results), timeout=ASLEEP)
        assert process.returncode == 0, process.stdout + process.stderr
        assert all(script.rpartition("/")[2] in process.stdout for script in changed)
        made = by_script(results)
        assert set(made) == set(changed)
    return {script: made.get(script) or recorded[script] for script in scripts}


def has_changed(script: str, kind: str, row: dict | None) -> bool:
    """Whether a script's row has to be made anew."""
    return row is None or _due(row.get("fingerprint"), fingerprints.of(ROOT / script, kind))


def _due(recorded: str | None, now: str) -> bool:
    share = int(os.environ.get("SHARE", 0))
    return recorded != now or (share > 0 and int(now, 16) % share == 0)


def file_anew(kind: str, folder: Path, *command: str) -> dict:
    """The same of a results file that is no list of scripts; the command takes its path."""
    recorded = json.loads((ROOT / "results" / f"{kind}.json").read_text())
    if not _due(recorded.get("fingerprint"), fingerprints.of_all(kind)):
        return recorded
    results = folder / f"{kind}.json"
    process = run(*command, str(results), timeout=ASLEEP)
    assert process.returncode == 0, process.stdout + process.stderr
    return json.loads(results.read_text())
