"""Print what results/ holds, script by script: python -m docs.summary"""

from docs.generate import memory_of, rehearsed_cells, rows_by_script
from stand_ins.ladder import ROOT, read_ladder


def lines() -> list[str]:
    """A table: memory as predicted and published, accuracy as rehearsed and published."""
    names = ("predicted", "published", "rehearsed")
    predicted, published, rehearsed = (
        rows_by_script(ROOT / "results" / f"{name}.json") for name in names
    )
    table = [
        f"{'':28s}  {'GPU memory, reserved':>27s}   {'test accuracy':>31s}",
        f"{'script':28s}  {'predicted':>16s}  {'published':>9s}   {'rehearsed':>20s}  "
        f"{'published':>9s}",
    ]
    for rung in read_ladder():
        known = published.get(rung.script, {})
        whole = "gb" in known and "what" not in known
        memory = f"{known['gb']:.2f} GB" if whole else ""
        accuracy = f"{known['accuracy']:.1f} %" if "accuracy" in known else ""
        name = rung.script.rpartition("/")[2]
        predicted_memory = memory_of(predicted.get(rung.script))
        learned = rehearsed_cells(rehearsed.get(rung.script))[1]
        table.append(
            f"{name:28s}  {predicted_memory:>16s}  {memory:>9s}   {learned:>20s}  {accuracy:>9s}"
        )
    return table


if __name__ == "__main__":
    print("\n".join(lines()))
