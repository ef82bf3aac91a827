"""Which scripts of the ladder to suggest for a GPU, and which of them fit, as recorded."""

from ladder.rows import by_script
from ladder.rungs import ROOT, Rung, needs_bfloat16
from ladder.tables import of_family

RESULTS = ROOT / "results"


def learns(row: dict | None) -> bool:
    """Whether a script's row of the rehearsal leaves that possible: without one, nobody knows."""
    return row is None or row.get("learned") is not False


def suggested(ladder: list[Rung], model: str) -> list[Rung]:
    """The scripts that train a model (see `rungs.family`), in the order in which to suggest them.

    Variants come last. What learned nothing in the rehearsal is a lesson and no suggestion.
    """
    rehearsed = by_script(RESULTS / "rehearsed.json")
    rungs = [rung for rung in of_family(ladder, model) if learns(rehearsed.get(rung.script))]
    return sorted(rungs, key=lambda rung: rung.variant)  # stable: else in the ladder's order


def verdict(script: str, needed: float, room: float, bfloat16: bool, margin: float) -> str:
    """Whether a script runs in `room` GB, of which it needs `needed` (predicted).

    `bfloat16`: whether the GPU computes in it; `margin`: see `ladder.margin`.
    """
    if needs_bfloat16(script) and not bfloat16:
        return "needs bfloat16"
    if needed <= room / (1 + margin):
        return "fits"
    return "may not fit" if needed <= room else "does not fit"
