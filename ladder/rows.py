"""Results: a JSON file with a row for each script. A row with an "error" says that it failed.

What a user's commands find is kept in results/local/, which git ignores; `make results` takes it
over into results/ (ladder/record.py).
"""

import contextlib
import fcntl
import json
import math
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ladder import fingerprints
from ladder.rungs import ROOT, LadderError, read_ladder
from ladder.scripts import display_name
from vramcast.processes.entry import NoAnswer
from vramcast.processes.supervisor import write_json

LOCAL = ROOT / "results" / "local"


class Damaged(NoAnswer, ValueError):
    """A results file holds something else than rows, or cannot be read; the message is whole."""


def read(path: Path) -> list[dict]:
    """The rows of a file, [] if there is none. Raises Damaged if it is no file of rows."""
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for, a device replaced
            raise ValueError("it is no file at all")
        text = path.read_text() if path.exists() else ""
        rows = json.loads(text, parse_constant=_no_number) if text.strip() else []
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ValueError("not a list of rows")
        if not all(isinstance(row.get("script"), str) for row in rows):
            raise ValueError("a row without its script")
    except (ValueError, OSError, RecursionError) as error:
        raise Damaged(
            f"{path} is no file of rows ({error}); move it away, or name another"
        ) from None
    return rows


def check(path: Path) -> None:
    """Look whether rows can be kept there, before long work.

    Raises ValueError (or Damaged, which is one), with what to do, if not.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise ValueError(f"{path} cannot be written ({error}); name another file") from None
    read(path)


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
    """Write rows into a file that keeps the rows of other scripts, also those that others write.

    JSON has no NaN and no infinity: they are written as null. Raises OSError if there is no room,
    say: then the file is as it was.
    """
    finite = [
        {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in row.items()
        }
        for row in new
    ]
    with alone_in(path.parent):
        write_json(merge(read(path), finite), path)


def unchanged(path: Path, scripts: list[Path], kind: str) -> dict[Path, dict]:
    """The rows of a file that would be found again: of the same script, packages and versions.

    `kind`: the results file that they would be taken over into. Failures are not among them.
    Raises Damaged if the file holds something else than rows.
    """
    known = {row["script"]: row for row in read(path) if "error" not in row}
    found = {script: known.get(display_name(script)) for script in scripts}
    return {
        script: row
        for script, row in found.items()
        if row and row.get("fingerprint") == fingerprints.of(script, kind)
    }


def told_unchanged(number: int) -> str:
    """A line on how many rows were left as they are."""
    return f"Left as before: {number}, because neither the script nor the packages have changed."


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Only one process at a time is in here with a folder. It is locked itself: no file is left.

    Where a file system cannot lock a folder, nobody waits.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def by_script(path: Path) -> dict[str, dict]:
    """The rows of a results file by script; {} if there is none outside of results/.

    Raises Damaged, as `recorded`.
    """
    if not path.exists() and path.parent != ROOT / "results":
        return {}
    content = recorded(path)
    try:
        rows = content["rows"] if isinstance(content, dict) else content
        return {row["script"]: row for row in rows}
    except (TypeError, KeyError):
        raise Damaged(f"{path} is damaged: it holds no rows of scripts. {_remedy(path)}") from None


def recorded(path: Path) -> list | dict:
    """What a results file holds. Raises Damaged, with how to get it back, if it cannot be read."""
    try:
        return json.loads(path.read_text(), parse_constant=_no_number)
    except (OSError, ValueError, RecursionError) as error:
        state = "damaged" if path.exists() else "missing"
        raise Damaged(f"{path} is {state} ({error}). {_remedy(path)}") from None


def _no_number(text: str) -> None:
    """In the place of NaN and infinity, with which every comparison would go wrong silently."""
    raise ValueError(f"{text} is no number")


def _remedy(path: Path) -> str:
    if path.is_relative_to(ROOT / "results") and not path.is_relative_to(LOCAL):
        return f"Get it back:  git checkout {path.relative_to(ROOT)}"
    return "Move it away: it is made anew."


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
