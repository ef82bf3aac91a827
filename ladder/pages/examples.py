"""The examples in docs/out-of-memory.md and docs/your-model.md: what changes, and what it saves."""

import difflib
from pathlib import Path

from ladder.examples import pairs
from ladder.pages import markers
from ladder.pages.escaping import block
from ladder.pages.pictures import step
from ladder.pages.tables import table
from ladder.rows import by_script, memory_of
from ladder.rungs import ROOT

PAGES = {"out_of_memory": "out-of-memory.md", "your_model": "your-model.md"}  # by folder


def pages() -> dict[Path, str]:
    """The two pages and their pictures, by path. Raises ValueError if a marker is missing."""
    results = ROOT / "results" / "examples"
    rows, steps = by_script(results / "predicted.json"), by_script(results / "steps.json")
    made = {ROOT / "docs" / page: (ROOT / "docs" / page).read_text() for page in PAGES.values()}
    for before, after in pairs():
        scripts = [path.relative_to(ROOT).as_posix() for path in (before, after)]
        name, page = before.stem, ROOT / "docs" / PAGES[before.parent.name]
        parts = [_difference(before, after), _figures([rows.get(script) for script in scripts])]
        old, new = map(steps.get, scripts)
        if old and new:
            title = name.replace("_", " ")
            made[ROOT / "docs" / "examples" / f"{name}.svg"] = step(title, new, title, old)
            parts.append(
                f"![Allocated memory over one training step, before and after, predicted]"
                f"(examples/{name}.svg)"
            )
        made[page] = markers.put(made[page], name, "\n\n".join(parts))
    return made


def _difference(before: Path, after: Path) -> str:
    """The whole script, with the changed lines marked."""
    old, new = (path.read_text().splitlines() for path in (before, after))
    lines = list(difflib.unified_diff(old, new, n=len(old), lineterm=""))[3:]
    return block("\n".join(line.rstrip() for line in lines), "diff")


def _figures(pair: list[dict | None]) -> str:
    """The two predictions."""
    head = "reserved", "allocated", "parameters, gradients, optimizer states", "activations"
    lines = [["predicted, on an A100", *head]]
    for title, row in zip(("before", "after"), pair, strict=True):
        if row is not None:
            kinds = row["breakdown_gb"]
            fixed = kinds["parameters"] + kinds["gradients"] + kinds["optimizer"]
            sizes = (f"{gb:.2f} GB" for gb in (row["allocated_gb"], fixed, kinds["activations"]))
            lines.append([title, memory_of(row), *sizes])
    return table(lines, "lrrrr")
