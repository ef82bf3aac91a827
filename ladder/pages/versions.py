"""The table of predictions in several versions of PyTorch."""

from pathlib import Path

from ladder.rows import by_script, recorded


def versions_table(results: Path) -> str:
    """Reserved GB of scripts by version, with the pinned version's from predicted.json."""
    rows = recorded(results / "versions.json")
    pinned = by_script(results / "predicted.json")
    versions = list(dict.fromkeys(row["torch"] for row in rows))
    found = {(row["script"], row["torch"]): row for row in rows}
    lines = [
        f"| script | {' | '.join(versions)} | the pinned one |",
        f"| --- |{' --: |' * (len(versions) + 1)}",
    ]
    for script in dict.fromkeys(row["script"] for row in rows):
        cells = [_cell(found.get((script, version))) for version in versions]
        lines.append(f"| {script} | {' | '.join([*cells, _cell(pinned.get(script))])} |")
    return "\n".join(lines)


def _cell(row: dict | None) -> str:
    if row is None:
        return ""
    return "none" if "error" in row else f"{row['reserved_gb']:.3f}"
