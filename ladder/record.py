"""Take over into results/ what this machine found: python -m ladder.record [SCRIPT …]

Without scripts, that is what was found of all (make results). Exit status 1 if nothing was found.
"""

import sys
from collections.abc import Collection
from pathlib import Path

from ladder import rows
from ladder.rungs import ROOT, read_ladder
from ladder.scripts import UnknownScript, display_name, find_scripts
from vramcast.processes.supervisor import write_json

FILES = ("rehearsed.json", "predicted.json", "predicted_2023.json", "steps.json")


def take_over(local: Path, recorded: Path, only: Collection[str] = ()) -> tuple[int, str]:
    """Replace recorded rows of the ladder by those of a local file: how many, and a line about it.

    `only`: the scripts whose rows are meant; none means all. Rows of scripts that failed are
    left out, and the recorded ones stay.

    Raises ValueError if a file holds something else than rows.
    """
    ladder = {rung.script for rung in read_ladder() if not only or rung.script in only}
    found = [row for row in rows.read(local) if row["script"] in ladder]
    good = [row for row in found if "error" not in row]
    if not good:
        return 0, f"{recorded.name}: nothing to take over from {local.parent}"
    write_json(rows.merge(rows.read(recorded), good), recorded)
    failed = ", ".join(row["script"] for row in found if "error" in row)
    said = f"{recorded.name}: {len(good)} rows taken over from {local.parent}"
    return len(good), said + (f"; left out, because they failed: {failed}" if failed else "")


if __name__ == "__main__":
    try:
        scripts = [display_name(script) for script in find_scripts(sys.argv[1:])]
    except UnknownScript as error:
        sys.exit(f"Nothing was taken over: {error}")
    taken = 0
    for name in FILES:
        try:
            number, said = take_over(rows.LOCAL / name, ROOT / "results" / name, scripts)
        except ValueError as error:
            sys.exit(f"{name}: nothing was taken over, it is no file of rows ({error})")
        print(said)
        taken += number
    if not taken:
        what = f"rung RUNG={scripts[0]}" if scripts else "ladder"
        sys.exit(f"Nothing was taken over. First run  make {what}")
