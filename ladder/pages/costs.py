"""What a rung's training step costs, relative to its parent's and to its model's first script's."""

from ladder.rungs import Rung, family


def tflop(row: dict) -> float:
    """TFLOP of one training sample, all precisions together, from a row that has a "cost"."""
    return sum(row["cost"]["tflop_per_sample"].values())


def relative(ladder: list[Rung], rows: dict[str, dict]) -> dict[str, tuple[float, float]]:
    """How many times the FLOPs of its parent, and of its trunk, each script needs per sample.

    The trunk (the first script of a model) is compared with itself. Scripts without a counted step
    are left out, as are those whose parent has none or trains another model.
    """
    counted = [rung for rung in ladder if rows.get(rung.script, {}).get("cost")]
    own = {rung.script: tflop(rows[rung.script]) for rung in counted}
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
