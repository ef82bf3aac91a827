"""Take over into results/ what this machine found: python -m ladder.record [SCRIPT …]

Without scripts, that is what was found of all (make results). Exit status: 0; 1 if nothing was
found; 2 if a file is none of rows, or cannot be written.
"""

import sys
from collections.abc import Collection
from pathlib import Path

from ladder import rows
from ladder.rungs import ROOT, read_ladder
from ladder.scripts import UnknownScript, display_name, find_scripts
from vramcast.processes.entry import NoAnswer, as_command

FILES = ("rehearsed.json", "predicted.json", "predicted_2023.json", "steps.json")


def take_over(local: Path, recorded: Path, only: Collection[str] = ()) -> tuple[int, str]:
    """Replace recorded rows of the ladder by those of a local file: how many, and a line about it.

    `only`: the scripts whose rows are meant; none means all. Rows of scripts that failed are
    left out, and the recorded ones stay.

    Raises Damaged if a file holds something else than rows.
    """
    ladder = {rung.script for rung in read_ladder() if not only or rung.script in only}
    found = [row for row in rows.read(local) if row["script"] in ladder]
    good = [row for row in found if "error" not in row]
    if not good:
        return 0, f"{recorded.name}: nothing to take over from {local.parent}"
    rows.keep(good, recorded)
    failed = ", ".join(row["script"] for row in found if "error" in row)
    said = f"{recorded.name}: {len(good)} rows taken over from {local.parent}"
    return len(good), said + (f"; left out, because they failed: {failed}" if failed else "")


def main() -> int:
    try:
        scripts = [display_name(script) for script in find_scripts(sys.argv[1:])]
    except UnknownScript as error:
        raise NoAnswer(f"Nothing was taken over: {error}") from None
    taken = 0
    for name in FILES:
        try:
            number, said = take_over(rows.LOCAL / name, ROOT / "results" / name, scripts)
        except rows.Damaged as error:
            raise NoAnswer(f"{name}: nothing was taken over. {error}") from None
        print(said)
        taken += number
    if not taken:
        what = f"rung RUNG={scripts[0]}" if scripts else "ladder"
        print(f"Nothing was taken over. First run  make {what}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    as_command(main)
