"""How far predictions were below what was measured, for the question whether a script fits."""

import json
from pathlib import Path

from ladder.rows import by_script, whole_runs
from ladder.rungs import ROOT


def pairs(results: Path) -> list[tuple[float, float]]:
    """What was measured on one GPU, and what is predicted for the same, both in GB.

    The published figures beside predictions as of 2023, and figures of others. The language models'
    are no measure: their batches and lengths are not those of the published ones. Sharded scripts
    have no one figure. What was read from nvidia-smi holds more than PyTorch's memory.
    """
    published = whole_runs(results)
    path = results / "others.json"
    others = [
        (row["measured_gb"], row["predicted_gb"])
        for row in (json.loads(path.read_text()) if path.exists() else [])
        if "predicted_gb" in row and not row["besides"]
    ]
    return others + [
        (published[script]["gb"], row["reserved_gb"])
        for script, row in by_script(results / "predicted_2023.json").items()
        if script in published and not script.startswith("bonus") and "reserved_least_gb" not in row
    ]


def margin(results: Path = ROOT / "results") -> float:
    """The largest share by which a measured figure was above its prediction; 0 if none was."""
    return max([0.0, *(measured / predicted - 1 for measured, predicted in pairs(results))])
