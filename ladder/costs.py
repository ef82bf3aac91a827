"""What a rung's step costs, beside its parent's and beside that of the first of its model."""

from ladder.rungs import Rung, family


def arithmetic(row: dict) -> float:
    """TFLOP of one training sample, all precisions together, by a row with a "cost"."""
    return sum(row["cost"]["tflop_per_sample"].values())


def relative(ladder: list[Rung], rows: dict[str, dict]) -> dict[str, tuple[float, float]]:
    """Each script's arithmetic a sample, in the parent's and in its model's first script's.

    The trunk is compared with itself. Left out are scripts without a counted step, and those whose
    parent has none or trains another model.
    """
    counted = [rung for rung in ladder if rows.get(rung.script, {}).get("cost")]
    own = {rung.script: arithmetic(rows[rung.script]) for rung in counted}
    first: dict[str, str] = {}
    shares = {}
    for rung in counted:
        trunk = first.setdefault(family(rung.script), rung.script)
        parent = rung.script if trunk == rung.script else rung.parent
        if parent in own and family(parent) == family(rung.script):
            shares[rung.script] = (
                own[rung.script] / own[parent],
                own[rung.script] / own[trunk],
            )
    return shares
