"""Results: a JSON file with a row for each script. A row with an "error" says that it failed.

What a user's commands find is kept in results/local/, which git ignores; `make results` takes it
over into results/ (ladder/record.py).
"""

import json
import math
import tempfile
from pathlib import Path

from ladder.rungs import ROOT, LadderError, read_ladder
from vramcast.processes.supervisor import write_json

LOCAL = ROOT / "results" / "local"


def read(path: Path) -> list[dict]:
    """The rows of a file, [] if there is none.

    Raises ValueError or OSError if it is no file of rows.
    """
    text = path.read_text() if path.exists() else ""
    rows = json.loads(text) if text.strip() else []
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError("not a list of rows")
    if not all(isinstance(row.get("script"), str) for row in rows):
        raise ValueError("a row without its script")
    return rows


def check(path: Path) -> None:
    """Look whether rows can be kept there, before long work.

    Raises ValueError, with what to do, if not.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise ValueError(f"{path} cannot be written ({error}); name another file") from None
    try:
        read(path)
    except (ValueError, OSError) as error:
        raise ValueError(
            f"{path} is no file of rows ({error}); move it away, or name another"
        ) from None


def merge(old: list[dict], new: list[dict]) -> list[dict]:
    """Old and new rows together, in the ladder's order, rows of other scripts last.

    A new row replaces the script's old one. Rows of scripts that no longer exist are dropped.
    """
    rows = {row["script"]: row for row in [*old, *new] if (ROOT / row["script"]).exists()}
    try:
        order = {rung.script: place for place, rung in enumerate(read_ladder())}
    except LadderError:  # somebody's script without a docstring must not cost a row
        order = {}
    return sorted(
        rows.values(), key=lambda row: (order.get(row["script"], len(order)), row["script"])
    )


def keep(new: list[dict], path: Path) -> None:
    """Write rows into a file that keeps the rows of other scripts.

    JSON has no NaN and no infinity: they are written as null.
    """
    finite = [
        {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in row.items()
        }
        for row in new
    ]
    write_json(merge(read(path), finite), path)


def by_script(path: Path) -> dict[str, dict]:
    """The rows of a results file by script; {} if there is no such file."""
    if not path.exists():
        return {}
    content = json.loads(path.read_text())
    rows = content["rows"] if isinstance(content, dict) else content
    return {row["script"]: row for row in rows}


def whole_runs(results: Path) -> dict[str, dict]:
    """The published rows that are the peak of a whole run, by script."""
    rows = by_script(results / "published.json")
    return {script: row for script, row in rows.items() if "what" not in row}


def is_range(row: dict) -> bool:
    """Whether a prediction is a range: its lower and upper figure differ in what is printed."""
    return row["reserved_gb"] - row.get("reserved_least_gb", row["reserved_gb"]) >= 0.005


def memory_of(row: dict | None) -> str:
    """A prediction's reserved GB as text; with "≤" where it is a range's upper figure."""
    if row is None:
        return ""
    return f"{'≤ ' * is_range(row)}{row['reserved_gb']:.2f} GB"
