"""Make the README's result table and docs/ladder.md from results/ and from the scripts.

    python -m docs.generate        (or: make results)

Published and rehearsed figures stand in columns of their own, and so that they cannot be mistaken
for each other each column says what it holds.
"""

import json
from pathlib import Path

from stand_ins.ladder import ROOT, Rung, changed, diff, read_ladder

START = "<!-- results: start (made by docs/generate.py, from results/) -->"
END = "<!-- results: end -->"


def rows_by_script(path: Path) -> dict[str, dict]:
    """The rows of a results file by their script; none if there is no such file."""
    if not path.exists():
        return {}
    content = json.loads(path.read_text())
    rows = content["rows"] if isinstance(content, dict) else content
    return {row["script"]: row for row in rows}


def technique(rung: Rung) -> str:
    """What a rung does, in a few words: its first line up to the colon."""
    return rung.title.partition(":")[0]


def anchor(script: str) -> str:
    """The heading of a script's section in docs/ladder.md."""
    return script.removesuffix(".py").rpartition("/")[2]


def published_cells(row: dict | None, base: dict) -> list[str]:
    """Memory (also in percent of the trunk's), minutes and accuracy."""
    if row is None:
        return ["", "", ""]
    if "what" in row:  # not the peak of the whole run
        memory = f"{row['gb']:.2f} GB, was {row['without_gb']:.2f} ({row['what']})"
    else:
        memory = f"{row['gb']:.2f} GB ({100 * row['gb'] / base['gb']:.0f} %)"
    minutes = f"{row['minutes']:.2f} min" if "minutes" in row else ""
    accuracy = f"{row['accuracy']:.2f} %" if "accuracy" in row else ""
    return [memory, minutes, accuracy]


def rehearsed_cells(row: dict | None) -> list[str]:
    """Precision and accuracy."""
    if row is None:
        return ["not run", ""]
    if not row["ok"]:
        return ["failed", ""]
    accuracy = "" if row["accuracy"] is None else f"{100 * row['accuracy']:.1f} %"
    if row["loss_last"] is None:
        accuracy = f"loss NaN, {accuracy}"
    return [row["precision"] or "", accuracy]


def results_table(ladder: list[Rung], results: Path) -> str:
    """The README's table: one row a rung, published figures beside rehearsed ones."""
    published = rows_by_script(results / "published.json")
    rehearsed = rows_by_script(results / "rehearsed.json")
    base = next(iter(published.values()))  # the trunk
    lines = [
        "| technique | script | change | published memory | published time | "
        "published accuracy | rehearsed precision | rehearsed accuracy |",
        "| --- | --- | --- | --: | --: | --: | --- | --: |",
    ]
    for rung in ladder:
        added, removed = changed(diff(rung))
        change = (
            f"[+{added} −{removed}](docs/ladder.md#{anchor(rung.script)})" if rung.parent else "–"
        )
        cells = [
            technique(rung) + (" (variant)" if rung.variant else ""),
            f"[{rung.script}]({rung.script})",
            change,
            *published_cells(published.get(rung.script), base),
            *rehearsed_cells(rehearsed.get(rung.script)),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def ladder_page(ladder: list[Rung]) -> str:
    """docs/ladder.md: each rung's lesson, and how its code differs from its parent's."""
    parts = [
        "# The ladder, rung by rung\n\nMade from the scripts' docstrings by `docs/generate.py`; "
        "the differences leave the docstrings out.\n"
    ]
    for rung in ladder:
        parts.append(f"## {anchor(rung.script)}\n\n**{rung.title}**\n")
        if rung.parent:
            what = "A variant of" if rung.variant else "Builds on"
            parts.append(f"{what} [{rung.parent}](#{anchor(rung.parent)}).\n")
        parts.append(f"{rung.lesson}\n\n```\n{rung.run}\n```\n")
        if rung.parent:
            shown = "\n".join(diff(rung)).rstrip()
            parts.append(f"```diff\n{shown}\n```\n")
    return "\n".join(parts)


def with_table(readme: str, table: str) -> str:
    """The README with `table` between its markers; ValueError if a marker is missing."""
    before, start, rest = readme.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise ValueError(f"README.md needs the two lines\n{START}\n{END}")
    return f"{before}{START}\n\n{table}\n\n{END}{after}"


def pages() -> dict[Path, str]:
    """What the generated pages should contain, by path."""
    ladder = read_ladder()
    readme = ROOT / "README.md"
    table = results_table(ladder, ROOT / "results")
    return {
        readme: with_table(readme.read_text(), table),
        ROOT / "docs" / "ladder.md": ladder_page(ladder),
    }


def write() -> list[Path]:
    """Bring the generated pages up to date; the paths of those that changed."""
    stale = [
        (path, text)
        for path, text in pages().items()
        if not path.exists() or path.read_text() != text
    ]
    for path, text in stale:
        path.write_text(text)
    return [path for path, _ in stale]


if __name__ == "__main__":
    for path in write():
        print(f"updated {path.relative_to(ROOT)}")
