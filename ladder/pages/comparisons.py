"""Predictions beside published figures, and beside what other tools predict."""

import statistics
from pathlib import Path

from ladder.pages.escaping import code, plain
from ladder.rows import by_script, memory_of, recorded, whole_runs
from ladder.rungs import Rung, number

LONG = 160  # characters of a message
FAULTS = {  # why a public script is not predicted
    "package": "They need packages, or versions of these, that cannot be had or are not today's",
    "data": "Data, weights or a program that they use are not here",
    "ours": "What this tool lacks, or what took it too long",
}


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
    rows = recorded(results / "other_predictors.json")
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
    """Training scripts that others published: predicted at the first try and today, or why not."""
    rows = recorded(results / "public_scripts.json")
    lines = ["| repository, release | script | first try | today |", "| --- | --- | --- | --: |"]
    names = [(row["repository"], row["path"]) for row in rows]
    for row in rows:
        several = names.count((row["repository"], row["path"])) > 1
        script = f"{row['path']} {row['options']}".strip() if several else row["path"]
        today = "not predicted" if "error" in row else f"{row['reserved_gb']:.2f} GB"
        lines.append(
            f"| {plain(row['repository'])} {row['release']} | {code(script)} | {_at_first(row)} | "
            f"{today} |"
        )
    first, second, third = (
        [row for row in rows if row["chosen"] == number] for number in (1, 2, 3)
    )
    lines.append(
        f"\nThey were chosen in three rounds, each before any of its scripts was tried. The first: "
        f"{_numbers(first)}; what they lacked was built before this was kept. The second, of the "
        f"same projects: {_numbers(second)}, {_good_at_first(second)} at the first try. The third, "
        f"of well-known repositories: {_numbers(third)}, {_good_at_first(third)} at the first try "
        f"(of {_tried_at_first(third)}: the others were tried after what was missing was built), "
        "which says most about other scripts."
    )
    good, ours = sum("error" not in row for row in rows), _of_fault(rows, "ours")
    lines.append(
        f"\nOf the scripts that run with today's packages and the data at hand, {good} of "
        f"{good + len(ours)} are predicted. Not predicted today:"
    )
    lines[-1:-1] = _counted(rows)
    for fault, title in FAULTS.items():
        lines.append(f"\n{title}:\n")
        lines += [
            f"- {plain(row['repository'])}, {code(row['path'])}: {plain(_why(row['error']))}"
            for row in _of_fault(rows, fault)
        ]
    return "\n".join(lines)


def _counted(rows: list[dict]) -> list[str]:
    """What was counted in real steps beside what is predicted, in a sentence, if anything was."""
    shares = [
        row["counted_gb"] / row["allocated_gb"]
        for row in rows if "counted_gb" in row and "error" not in row
    ]  # fmt: skip
    if not shares:
        return []
    most = sum(share <= 1 for share in shares)
    return [
        f"\nOf {len(shares)} of them, real steps on the CPU were counted (parameters, optimizer "
        f"states, and gradients or saved tensors): in {most}, this is at most the predicted "
        f"allocated peak, and up to {100 * max(shares):.0f} % of it."
    ]


def _of_fault(rows: list[dict], fault: str) -> list[dict]:
    """The rows that are not predicted for a reason, one of FAULTS."""
    return [row for row in rows if "error" in row and row["fault"] == fault]


def _numbers(rows: list[dict]) -> str:
    projects = len({row["repository"] for row in rows})
    good = sum("error" not in row for row in rows)
    return f"{len(rows)} scripts of {projects} projects, of which {good} are predicted now"


def _why(error: str) -> str:
    """The begin of a message, as a sentence."""
    first = error.partition("\n")[0].partition(". ")[0].rstrip(":. ")
    return f"{first}." if len(first) <= LONG else f"{first[:LONG].rstrip()} …"


def _good_at_first(rows: list[dict]) -> int:
    return sum(row["at_first"] is True for row in rows)


def _tried_at_first(rows: list[dict]) -> int:
    return sum(row["at_first"] is not None for row in rows)


def _at_first(row: dict) -> str:
    """What was said when a script was first tried, as far as that was kept."""
    if row["chosen"] == 1 or row["at_first"] is None:
        return ""
    if not row["at_first"]:
        return "not predicted"
    return f"{row['first']:.2f} GB" if "first" in row else "predicted"


def speedruns(results: Path) -> str:
    """Records of contests: what their compiled scripts print on a GPU, and here."""
    lines = [
        "| record | PyTorch | allocated: measured | predicted | reserved: measured | predicted "
        "| allocated, uncompiled |",
        "| --- | --- | --: | --: | --: | --: | --: |",
    ]
    for row in recorded(results / "speedruns.json"):
        said, measured = row["predicted"], row["measured"]
        if not said.get("counted", True):
            continue
        cells = [plain(row["record"]), row["pytorch"] or "?"]
        for name in ("allocated_gb", "reserved_gb"):
            cells += _beside(measured.get(name), said.get(name))
        uncompiled = said.get("uncompiled_gb")
        cells.append(f"{uncompiled['allocated']:.2f} GB" if uncompiled else "")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _beside(measured: float | None, predicted: float | None) -> list[str]:
    """Two cells: a measured figure, and the prediction with its error."""
    told = "" if measured is None else f"{measured:.2f} GB"
    if predicted is None:
        return [told, "not predicted"]
    error = "" if measured is None else f" ({100 * (predicted / measured - 1):+.1f} %)"
    return [told, f"{predicted:.2f} GB{error}"]
