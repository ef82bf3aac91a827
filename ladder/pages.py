"""Make the README's result tables and the pages in docs/ from results/ and from the scripts.

    python -m ladder.pages        (or: make results)

Published, predicted and rehearsed figures stand in columns of their own, and so that they cannot be
mistaken for each other each column says what it holds.
"""

import json
import statistics
from pathlib import Path

from ladder import combining, markers
from ladder.others import error, other_tools, others_table
from ladder.rungs import ROOT, Rung, changed, diff, family, read_ladder


def rows_by_script(path: Path) -> dict[str, dict]:
    """The rows of a results file by their script; none if there is no such file."""
    if not path.exists():
        return {}
    content = json.loads(path.read_text())
    rows = content["rows"] if isinstance(content, dict) else content
    return {row["script"]: row for row in rows}


def whole_runs(results: Path) -> dict[str, dict]:
    """The published rows that hold the peak of a whole run, by their script."""
    rows = rows_by_script(results / "published.json")
    return {script: row for script, row in rows.items() if "what" not in row}


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


def is_range(row: dict) -> bool:
    """Whether a prediction's reserved figure is an upper one, by more than what is printed."""
    return row["reserved_gb"] - row.get("reserved_least_gb", row["reserved_gb"]) >= 0.005


def memory_of(row: dict | None) -> str:
    """A prediction's reserved GB; "≤" where streams share memory and it may be less."""
    if row is None:
        return ""
    return f"{'≤ ' * is_range(row)}{row['reserved_gb']:.2f} GB"


def rehearsed_cells(row: dict | None) -> list[str]:
    """What ran, and accuracy."""
    if row is None:
        return ["not run", ""]
    if "error" in row:
        return ["failed", ""]
    ran = row["precision"] or ""
    if row["ranks"] > 1:
        ran += f"; {row['ranks']} ranks with {row['parameters_held']:.0%} of the parameters each"
    accuracy = "" if row["accuracy"] is None else f"{100 * row['accuracy']:.1f} %"
    if row["learned"] is False:
        nan = ", loss NaN" if row["loss_last"] is None else ""
        accuracy = f"did not learn: {accuracy}{nan}"
    return [ran, accuracy]


def table(title: str, rungs: list[Rung], results: Path, base: str | None) -> str:
    """One row a rung, published figures beside rehearsed ones; memory also in shares of `base`."""
    published = rows_by_script(results / "published.json")
    predicted = rows_by_script(results / "predicted.json")
    rehearsed = rows_by_script(results / "rehearsed.json")
    lines = [
        f"### {title}\n",
        "| technique | script | change | predicted memory | published memory | published time | "
        "published accuracy | rehearsed: what ran | rehearsed accuracy |",
        "| --- | --- | --- | --: | --: | --: | --: | --- | --: |",
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
            memory_of(predicted.get(rung.script)),
            *published_cells(published.get(rung.script), published.get(base)),
            *rehearsed_cells(rehearsed.get(rung.script)),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def results_tables(ladder: list[Rung], results: Path) -> str:
    """The README's tables: a model and its GPUs each."""
    small, large, language = (
        [rung for rung in ladder if family(rung.script) == name]
        for name in ("ViT-L/16", "ViT-H/14", "language models")
    )
    return "\n\n".join(
        [
            table("ViT-L/16 on one GPU", small, results, small[0].script),
            how_far(small, rows_by_script(results / "predicted.json")),
            table("ViT-H/14, 08a to 10 on several GPUs", large, results, large[0].script),
            table("Language models, BigBird on several GPUs", language, results, None),
        ]
    )


def how_far(rungs: list[Rung], predicted: dict[str, dict]) -> str:
    """How the trunk and the best rungs compare, by the predictions there are."""
    rows = [predicted[rung.script] for rung in rungs if rung.script in predicted]
    if not rows:
        return ""

    def least(rows: list[dict]) -> dict:
        return min(rows, key=lambda row: row["reserved_gb"])

    trunk, best = rows[0], least(rows)
    equal = least([row for row in rows if row["batch_size"] == trunk["batch_size"]])
    parent = predicted[next(rung.parent for rung in rungs if rung.script == best["script"])]
    moved = best["host_training_gb"] - parent["host_training_gb"]
    offloaded = f", and {moved:.2f} GB more of the host than its parent" if moved > 0.01 else ""
    ratio = trunk["reserved_gb"] / best["reserved_gb"]
    held = {row["script"]: row["breakdown_gb"]["parameters"] for row in (trunk, best)}
    return (
        f"Predicted: the trunk's {trunk['reserved_gb']:.2f} GB are {ratio:.1f} times the "
        f"{best['reserved_gb']:.2f} GB of {anchor(best['script'])} (with batches of "
        f"{best['batch_size']}{offloaded}). Of these, {held[best['script']]:.2f} GB "
        f"are parameters, which are {held[trunk['script']]:.2f} GB in the trunk. With batches of "
        f"{trunk['batch_size']} as there, "
        f"{anchor(equal['script'])} needs {equal['reserved_gb']:.2f} GB, "
        f"{trunk['reserved_gb'] / equal['reserved_gb']:.1f} times less than the trunk."
    )


def error_tables(ladder: list[Rung], results: Path) -> str:
    """Predictions as of 2023 beside published figures, on one GPU and sharded; and today's."""
    published = whole_runs(results)
    then = rows_by_script(results / "predicted_2023.json")
    now = rows_by_script(results / "predicted.json")
    scripts = [rung.script for rung in ladder if rung.script in then and rung.script in published]
    one = [script for script in scripts if "reserved_least_gb" not in then[script]]
    lines = [
        "| script | published | predicted as of 2023 | error | predicted, today's PyTorch |",
        "| --- | --: | --: | --: | --: |",
    ]
    for script in one:
        known, row = published[script]["gb"], then[script]
        lines.append(
            f"| {script} | {known:.2f} | {row['reserved_gb']:.2f} | "
            f"{error(row['reserved_gb'], known)} | {memory_of(now.get(script))} |"
        )
    errors = [
        abs(then[script]["reserved_gb"] / published[script]["gb"] - 1)
        for script in one
        if not script.startswith("bonus")
    ]
    lines += [
        f"| median of the errors' sizes, bonus aside | | | {100 * statistics.median(errors):.1f} % "
        "| |",
        "\n| script, one GPU of four | published | as of 2023: at least | at most | published lies "
        "| predicted, today's PyTorch |",
        "| --- | --: | --: | --: | --- | --: |",
    ]
    for script in scripts:
        if script not in one:
            known, row = published[script]["gb"], then[script]
            lines.append(
                f"| {script} | {known:.2f} | {row['reserved_least_gb']:.2f} | "
                f"{row['reserved_gb']:.2f} | {where(known, row)} | {memory_of(now.get(script))} |"
            )
    return "\n".join(lines)


def where(known: float, row: dict) -> str:
    """Where a figure lies, seen from a prediction with a lower and an upper figure."""
    if known > row["reserved_gb"]:
        return f"above, by {100 * (known / row['reserved_gb'] - 1):.1f} %"
    if known < row["reserved_least_gb"]:
        return f"below, by {100 * (1 - known / row['reserved_least_gb']):.1f} %"
    return "between"


def ladder_page(ladder: list[Rung]) -> str:
    """docs/ladder.md: each rung's lesson, and how its code differs from its parent's."""
    parts = [
        "# The ladder, rung by rung\n\nMade from the scripts' docstrings by `ladder/pages.py`; "
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


def prediction_page(page: str, ladder: list[Rung], results: Path) -> str:
    """docs/how-prediction-works.md with its three tables."""
    page = markers.put(page, "results", error_tables(ladder, results))
    page = markers.put(page, "others", others_table(results))
    return markers.put(page, "other tools", other_tools(results))


def pages() -> dict[Path, str]:
    """What the generated pages should contain, by path."""
    ladder = read_ladder()
    readme, prediction = ROOT / "README.md", ROOT / "docs" / "how-prediction-works.md"
    pairs = ROOT / "docs" / "combining.md"
    tables = results_tables(ladder, ROOT / "results")
    return {
        readme: markers.put(readme.read_text(), "results", tables),
        prediction: prediction_page(prediction.read_text(), ladder, ROOT / "results"),
        ROOT / "docs" / "ladder.md": ladder_page(ladder),
        pairs: combining.fill(pairs.read_text(), ROOT / "results"),
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
