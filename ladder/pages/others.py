"""What others measured beside what is predicted: docs/how-far-off.md's tables of that."""

import math
import statistics
from pathlib import Path

from ladder.margin import margins, pairs, told_in_vain
from ladder.pages.escaping import plain
from ladder.rows import recorded
from vramcast.evidence import LIKE

MISS = 0.05  # a larger error is a miss
NAMES = {
    "plain": "plain, on one GPU",
    "convolutions": "with convolutions",
    "quantized": "with weights in 4 bits",
    "sharded": "sharded over several GPUs",
    "compiled": "with torch.compile",
}


def error(row: dict) -> float:
    """The prediction's error, as a share of what was measured."""
    return row["predicted_gb"] / row["measured_gb"] - 1


def _percent(share: float, sign: str = "+") -> str:
    return f"{100 * share:{sign}.1f} %"


def _nearly_all(sizes: list[float]) -> float:
    """The size below which 95 % of these lie (the nearest rank)."""
    return sorted(sizes)[math.ceil(0.95 * len(sizes)) - 1]


def _summary(name: str, rows: list[dict]) -> str:
    errors = [error(row) for row in rows if "predicted_gb" in row]
    sizes = [abs(one) for one in errors]
    cells = [name, str(len(rows)), str(len(rows) - len(errors)) if len(errors) < len(rows) else ""]
    cells += [_percent(statistics.median(sizes), ""), _percent(_nearly_all(sizes), "")]
    return f"| {' | '.join([*cells, _percent(max(errors, key=abs))])} |"


def by_project(rows: list[dict]) -> str:
    """One row for each project, and one for all."""
    counted = [row for row in rows if row["counted"]]
    lines = [
        "| project | figures | not predicted | median error | 95 % within | largest error |",
        "| --- | --: | --: | --: | --: | --: |",
    ]
    for project in {row["project"]: None for row in counted}:
        lines.append(_summary(project, [row for row in counted if row["project"] == project]))
    lines.append(_summary("all", counted))
    return "\n".join(lines)


def misses(rows: list[dict]) -> str:
    """Each figure that is off by more than MISS, or not predicted, with why as far as is known."""
    lines = []
    for row in rows:
        if not row["counted"]:
            continue
        name = f"- {row['project']}, {row['what']}, {row['quantity']}"
        if "error" in row:
            why = row["explanation"] or plain(_first_sentence(row["error"]))
            lines.append(f"{name}: no prediction; {why}.")
        elif abs(error(row)) > MISS:
            lines.append(
                f"{name}, {_percent(error(row))}: {row['explanation'] or 'not explained'}."
            )
    return "\n".join(lines)


def _first_sentence(text: str) -> str:
    return text.partition("\n")[0].partition(". ")[0].rstrip(".")


def every_row(rows: list[dict]) -> str:
    """All figures, project by project: conditions, sources, notes."""
    lines = []
    for project in {row["project"]: None for row in rows}:
        own = [row for row in rows if row["project"] == project]
        lines += [
            f"<details><summary>{project}: {len(own)} figures</summary>\n",
            "| what | measured, GB | predicted, GB | error |",
            "| --- | --: | --: | --: |",
        ]
        lines += [_line(row) for row in own]
        lines.append("")
        sources = {(row["source"], row["conditions"]): None for row in own}
        lines += [f"- {source}. {conditions}." for source, conditions in sources]
        notes: dict[str, list[str]] = {}
        for row in own:
            if row["note"]:
                notes.setdefault(row["note"], []).append(row["what"])
        lines += [f"- {'; '.join(dict.fromkeys(whats))}: {note}." for note, whats in notes.items()]
        lines.append("\n</details>\n")
    return "\n".join(lines).rstrip()


def _line(row: dict) -> str:
    what = f"{row['what']}, {row['quantity']}" + ("" if row["counted"] else " (not counted)")
    cells = [what, f"{row['measured_gb']:.2f}"]
    if "predicted_gb" in row:
        cells += [f"{row['predicted_gb']:.2f}", _percent(error(row))]
    else:
        cells += ["none", ""]
    return f"| {' | '.join(cells)} |"


def page(results: Path) -> str:
    """The whole part of the page."""
    rows = recorded(results / "others.json")
    return "\n\n".join(
        [
            by_project(rows),
            f"Off by more than {100 * MISS:.0f} %, or not predicted:",
            misses(rows),
            "All figures:",
            every_row(rows),
        ]
    )


def margin_table(results: Path) -> str:
    """The margins by kind, and how often they would have misled."""
    lines = ["| kind of script | margin | figures | projects |", "| --- | --: | --: | --: |"]
    found = margins(results)
    for kind in LIKE:
        one = found[kind]
        lines.append(
            f"| {NAMES[kind]} | {_percent(one['margin'], '')} | {one['figures']} | "
            f"{one['projects']} |"
        )
    known = pairs(results)
    within, without = (told_in_vain(known, left_out) for left_out in (False, True))
    lines.append(
        f"\nOf {len(known)} measurements, {len(within)} were made on a GPU that would be told "
        f'"fits" if it had a little less memory than was needed. With margins made from the other '
        f"projects' measurements alone, it is {len(without)}"
        + (": " if without else ".")
        + "; ".join(f"{p.project}, {p.what} ({_percent(p.low)})" for p in without)
        + ("." if without else "")
    )
    return "\n".join(lines)
