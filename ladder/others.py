"""Predictions beside what others measured, and beside what other tools predict, as tables."""

import json
import statistics
from pathlib import Path


def error(predicted: float, published: float) -> str:
    """How far a prediction is off, in percent."""
    return f"{100 * (predicted / published - 1):+.1f} %"


def others_table(results: Path) -> str:
    """What others measured, and what is predicted for the same training step."""
    rows = json.loads((results / "others.json").read_text())
    lines = [
        "| project | what | measured, GB | predicted, GB | error |",
        "| --- | --- | --: | --: | --: |",
    ]
    for row in rows:
        found = ["no prediction", ""]
        if "predicted_gb" in row:
            found = [f"{row['predicted_gb']:.2f}", error(row["predicted_gb"], row["measured_gb"])]
        cells = [row["project"], f"{row['what']}, {row['quantity']}", f"{row['measured_gb']:.2f}"]
        lines.append(f"| {' | '.join([*cells, *found])} |")
    errors = [
        abs(row["predicted_gb"] / row["measured_gb"] - 1) for row in rows if "predicted_gb" in row
    ]
    within = sum(size <= 0.06 for size in errors)
    lines.append(
        f"\n{len(rows)} figures, {len(errors)} of them predicted. The median of the errors' sizes "
        f"is {100 * statistics.median(errors):.1f} %, {within} are within 6 %.\n"
    )
    sources = {(row["project"], row["source"], row["conditions"]): None for row in rows}
    lines += [f"- {project}: {source}. {conditions}." for project, source, conditions in sources]
    reasons = {row["error"]: None for row in rows if "error" in row}
    lines += [f"- No prediction: {reason}." for reason in reasons]
    notes = {(row["project"], row["what"], row["note"]): None for row in rows if row["note"]}
    lines += [f"- {project}, {what}: {note}." for project, what, note in notes]
    return "\n".join(lines)


def other_tools(results: Path) -> str:
    """What other tools predict for published scripts, beside ours: errors, and seconds."""
    rows = json.loads((results / "other_predictors.json").read_text())
    found = {(row["tool"], row["script"]): row for row in rows}
    scripts = {row["script"]: row["published_gb"] for row in rows}
    heads = [
        f"{script.partition('_')[0]}, {known:.2f} GB published" for script, known in scripts.items()
    ]
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
