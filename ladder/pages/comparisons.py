"""Predictions beside published figures, and beside what other tools predict."""

import json
import statistics
from pathlib import Path

from ladder.rows import by_script, memory_of, whole_runs
from ladder.rungs import Rung, number


def error(predicted: float, published: float) -> str:
    """By how many percent a prediction differs from what was measured."""
    return f"{100 * (predicted / published - 1):+.1f} %"


def error_tables(ladder: list[Rung], results: Path) -> str:
    """Predictions as of 2023 beside published figures, on one GPU and sharded; and today's."""
    published = whole_runs(results)
    then = by_script(results / "predicted_2023.json")
    now = by_script(results / "predicted.json")
    scripts = [rung.script for rung in ladder if rung.script in then and rung.script in published]
    one = [script for script in scripts if "reserved_least_gb" not in then[script]]
    lines = [
        "| script | published | predicted as of 2023 | error of that | predicted today |",
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
    """Whether a measured figure is above, below or between a prediction's two figures."""
    if known > row["reserved_gb"]:
        return f"above, by {100 * (known / row['reserved_gb'] - 1):.1f} %"
    if known < row["reserved_least_gb"]:
        return f"below, by {100 * (1 - known / row['reserved_least_gb']):.1f} %"
    return "between"


def other_tools(results: Path) -> str:
    """What other tools predict for published scripts, beside ours: errors, and seconds."""
    rows = json.loads((results / "other_predictors.json").read_text())
    found = {(row["tool"], row["script"]): row for row in rows}
    scripts = {row["script"]: row["published_gb"] for row in rows}
    heads = [f"{number(script)}, {known:.2f} GB published" for script, known in scripts.items()]
    lines = [f"| tool | {' | '.join(heads)} |", f"| --- |{' --: |' * len(heads)}"]
    for tool in {row["tool"]: None for row in rows}:
        cells = [
            f"{row['predicted_gb']:.2f} ({error(row['predicted_gb'], known)}), "
            f"{row['seconds']:.0f} s"
            for script, known in scripts.items()
            for row in [found[tool, script]]
        ]
        lines.append(f"| {tool} | {' | '.join(cells)} |")
    return "\n".join(lines)


def public_scripts(results: Path) -> str:
    """Training scripts that others published: predicted, or why not."""
    rows = json.loads((results / "public_scripts.json").read_text())
    lines = ["| repository, release | script | predicted, GB | in seconds |"]
    lines.append("| --- | --- | --: | --: |")
    for row in rows:
        release = f"{row['repository']} {row['release']}"
        found = ["not predicted", ""]
        if "error" not in row:
            found = [f"{row['reserved_gb']:.2f}", f"{row['seconds']:.0f}"]
        cells = [release, f"`{row['path']}`", *found]
        lines.append(f"| {' | '.join(cells)} |")
    first = [row for row in rows if not row["later"]]
    later = [row for row in rows if row["later"]]
    good, new = (sum("error" not in row for row in some) for some in (first, later))
    at_first = sum(row["at_first"] for row in later)
    projects = len({row["repository"] for row in rows})
    lines.append(
        f"\n{len(first)} scripts of {projects} projects were chosen before any was tried; then "
        f"what they lacked was built, and {good} of them are predicted now. So they say little "
        f"about other scripts. The last {len(later)} were chosen and tried after that: {at_first} "
        f"of them were predicted at the first try, {new} are by now.\n"
    )
    lines += [
        f"- {row['repository']}, `{row['path']}`: {row['error'].partition('. ')[0].rstrip('.')}."
        for row in rows
        if "error" in row
    ]
    return "\n".join(lines)
