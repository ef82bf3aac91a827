"""Make the README's result tables and docs/ladder.md from results/ and from the scripts.

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


def published_cells(row: dict | None, base: dict | None) -> list[str]:
    """Memory (also in percent of the base's, if there is one), minutes and accuracy."""
    if row is None:
        return ["", "", ""]
    if "what" in row:  # not the peak of the whole run
        memory = f"{row['gb']:.2f} GB, was {row['without_gb']:.2f} ({row['what']})"
    else:
        share = f" ({100 * row['gb'] / base['gb']:.0f} %)" if base else ""
        memory = f"{row['gb']:.2f} GB{share}"
    minutes = f"{row['minutes']:.2f} min" if "minutes" in row else ""
    accuracy = f"{row['accuracy']:.2f} %" if "accuracy" in row else ""
    return [memory, minutes, accuracy]


def rehearsed_cells(row: dict | None) -> list[str]:
    """What ran, and accuracy."""
    if row is None:
        return ["not run", ""]
    if not row["ok"]:
        return ["failed", ""]
    ran = row["precision"] or ""
    if row["ranks"] > 1:
        ran += f"; {row['ranks']} ranks with {row['parameters_held']:.0%} of the parameters each"
    accuracy = "" if row["accuracy"] is None else f"{100 * row['accuracy']:.1f} %"
    if row["loss_last"] is None:
        accuracy = f"loss NaN, {accuracy}"
    return [ran, accuracy]


def table(title: str, rungs: list[Rung], results: Path, base: str | None) -> str:
    """One row a rung, published figures beside rehearsed ones; memory also in shares of `base`."""
    published = rows_by_script(results / "published.json")
    rehearsed = rows_by_script(results / "rehearsed.json")
    lines = [
        f"### {title}\n",
        "| technique | script | change | published memory | published time | "
        "published accuracy | rehearsed: what ran | rehearsed accuracy |",
        "| --- | --- | --- | --: | --: | --: | --- | --: |",
    ]
    for rung in rungs:
        added, removed = changed(diff(rung))
        change = (
            f"[+{added} −{removed}](docs/ladder.md#{anchor(rung.script)})" if rung.parent else "–"
        )
        cells = [
            technique(rung) + (" (variant)" if rung.variant else ""),
            f"[{rung.script.rpartition('/')[2]}]({rung.script})",
            change,
            *published_cells(published.get(rung.script), published.get(base)),
            *rehearsed_cells(rehearsed.get(rung.script)),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def results_tables(ladder: list[Rung], results: Path) -> str:
    """The README's tables: a model and its GPUs each."""
    large = [rung for rung in ladder if rung.script.startswith("08-10")]
    language = [rung for rung in ladder if rung.script.startswith("bonus")]
    small = [rung for rung in ladder if rung not in large + language]
    return "\n\n".join(
        [
            table("ViT-L/16 on one GPU", small, results, small[0].script),
            table("ViT-H/14, from 08a on several GPUs", large, results, large[0].script),
            table("Language models, BigBird on several GPUs", language, results, None),
        ]
    )


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


def with_tables(readme: str, tables: str) -> str:
    """The README with `tables` between its markers; ValueError if a marker is missing."""
    before, start, rest = readme.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise ValueError(f"README.md needs the two lines\n{START}\n{END}")
    return f"{before}{START}\n\n{tables}\n\n{END}{after}"


def pages() -> dict[Path, str]:
    """What the generated pages should contain, by path."""
    ladder = read_ladder()
    readme = ROOT / "README.md"
    tables = results_tables(ladder, ROOT / "results")
    return {
        readme: with_tables(readme.read_text(), tables),
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
