"""The margin: by how much predictions were too low. Within it, a script "may not fit"."""

import json
from pathlib import Path

from ladder.rows import by_script, whole_runs
from ladder.rungs import ROOT


def pairs(results: Path) -> list[tuple[float, float]]:
    """Measured and predicted GB of the same training on one GPU, for each that was measured.

    These are the published figures beside the predictions as of 2023, and figures of others
    (results/others.json). Left out are the language models, since the published runs had other
    batches and text lengths; sharded scripts, which are predicted as a range; and figures that
    were read from nvidia-smi, which holds more than PyTorch's memory.
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
    """The largest share by which a measurement exceeded its prediction; 0 if none did."""
    return max([0.0, *(measured / predicted - 1 for measured, predicted in pairs(results))])
