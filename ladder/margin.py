"""The margins of "fits": by how much predictions were too low, by the kind of script.

Within its kind's margin, a script "may not fit".
"""

from pathlib import Path
from typing import NamedTuple

from ladder.rows import by_script, recorded, whole_runs
from ladder.rungs import ROOT
from vramcast.evidence import LIKE

LADDER = "the articles"  # whose published figures are a project like others


class Pair(NamedTuple):
    """Measured and predicted GB of the same training."""

    kind: str
    project: str
    what: str
    measured: float
    predicted: float

    @property
    def low(self) -> float:
        """The share by which the measurement exceeds the prediction; negative if it does not."""
        return self.measured / self.predicted - 1


def pairs(results: Path) -> list[Pair]:
    """Each measurement that a margin rests on.

    These are the published figures beside the predictions as of 2023, and figures of others
    (results/others.json) that are counted there. Left out are the language models, since the
    published runs had other batches and text lengths; published figures of sharded scripts, which
    are predicted as a range; and figures that were read from nvidia-smi, which holds more than
    PyTorch's memory.
    """
    path = results / "others.json"
    rows = recorded(path) if path.exists() else []
    found = [
        Pair(row["like"], row["project"], row["what"], row["measured_gb"], row["predicted_gb"])
        for row in rows
        if "predicted_gb" in row and row["counted"] and not row["besides"]
    ]
    published = whole_runs(results)
    for script, row in by_script(results / "predicted_2023.json").items():
        if (
            script in published
            and not script.startswith("bonus")
            and "reserved_least_gb" not in row
        ):
            kind, known = row.get("like", "plain"), published[script]["gb"]
            found.append(Pair(kind, LADDER, script, known, row["reserved_gb"]))
    return found


def largest(some: list[Pair]) -> float:
    """The largest share by which one of these measurements exceeds its prediction, at least 0."""
    return max([0.0, *(pair.low for pair in some)])


def of_kind(kind: str, known: list[Pair]) -> float:
    """The margin of a kind: at least that of plain scripts, of whose operators it has most.

    Where nobody measured the kind, that of all kinds together.
    """
    if all(pair.kind != kind for pair in known):
        return largest(known)
    return largest([pair for pair in known if pair.kind in (kind, "plain")])


def margins(results: Path = ROOT / "results") -> dict[str, dict]:
    """By kind: its margin, and the numbers of figures and of projects that it rests on."""
    known = pairs(results)
    found = {}
    for kind in LIKE:
        own = [pair for pair in known if pair.kind == kind]
        projects = len({pair.project for pair in own})
        found[kind] = {
            "margin": of_kind(kind, known), "figures": len(own), "projects": projects,
        }  # fmt: skip
    return found


def told_in_vain(known: list[Pair], left_out: bool) -> list[Pair]:
    """The measurements whose GPU would be told "fits" although it is too small.

    That is a GPU with a little less than was measured. `left_out`: the margin is made from other
    projects' measurements alone, so that none is held against a margin that it is part of.
    """
    return [
        pair
        for pair in known
        if pair.low
        > of_kind(pair.kind, [p for p in known if not left_out or p.project != pair.project])
    ]
