"""Print what this machine found, beside what is published: python -m ladder.summary"""

from pathlib import Path

from ladder import rows
from ladder.pages.tables import rehearsed_cells
from ladder.rows import LOCAL, by_script, memory_of
from ladder.rungs import ROOT, read_ladder
from vramcast.processes.entry import NoAnswer, as_command

MADE_BY = {"predicted": "-m ladder.predict", "rehearsed": "rehearse.py"}


def lines(local: Path = LOCAL) -> list[str]:
    """A table of memory and accuracy, and what is missing in it, with the reason."""
    published = by_script(ROOT / "results" / "published.json")
    found = {}
    for name in MADE_BY:
        found[name] = {row["script"]: row for row in rows.read(local / f"{name}.json")}
    table = [
        f"{'':28s}  {'GPU memory, reserved':>27s}   {'test accuracy':>41s}",
        f"{'script':28s}  {'predicted':>16s}  {'published':>9s}   {'rehearsed':>30s}  "
        f"{'published':>9s}",
    ]
    missing, absent = [], {name: [] for name in MADE_BY}
    ladder = read_ladder()
    for rung in ladder:
        known = published.get(rung.script, {})
        whole = "gb" in known and "what" not in known
        memory = f"{known['gb']:.2f} GB" if whole else ""
        accuracy = f"{known['accuracy']:.1f} %" if "accuracy" in known else ""
        good = {}
        for name, known_rows in found.items():
            row = known_rows.get(rung.script)
            if row is None:
                absent[name].append(rung.script)
            elif "error" in row:
                missing.append(f"{rung.script} could not be {name}: {row['error']}")
            else:
                good[name] = row
        predicted = memory_of(good.get("predicted"))
        rehearsed = rehearsed_cells(good["rehearsed"])[1] if "rehearsed" in good else ""
        table.append(
            f"{rung.script.rpartition('/')[2]:28s}  {predicted:>16s}  {memory:>9s}   "
            f"{rehearsed:>30s}  {accuracy:>9s}"
        )
    for name, scripts in absent.items():
        if scripts:
            names = ", ".join(scripts) if len(scripts) < len(ladder) else "all scripts"
            missing.append(f"Not {name} yet (python {MADE_BY[name]}): {names}")
    return [*table, "", *missing] if missing else table


def main() -> int:
    try:
        print("\n".join(lines()))
    except NoAnswer as error:
        raise NoAnswer(f"There is no summary: {error}") from None
    return 0


if __name__ == "__main__":
    as_command(main)
