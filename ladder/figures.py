"""The README's figures and one step's timeline, drawn from predictions."""

import json
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt

from ladder.pages import anchor, memory_of, whole_runs
from ladder.rows import KINDS, check_file
from ladder.rungs import ROOT, family

matplotlib.use("Agg")
matplotlib.rcParams["svg.hashsalt"] = "ladder"  # the same figure twice is the same file
COLORS = dict(
    zip(KINDS, ("#4477aa", "#ee6677", "#ccbb44", "#228833", "#66ccee", "#aa3377"), strict=True)
)
PLAIN = {"metadata": {"Date": None}}


def bars(rows: list[dict], published: dict[str, dict], path: Path) -> None:
    """Predicted and, where there are whole runs, published reserved GB, model by model."""
    models = list(dict.fromkeys(family(row["script"]) for row in rows))
    rows = sorted(rows, key=lambda row: models.index(family(row["script"])))
    scripts = [row["script"] for row in rows]
    figure, axes = plt.subplots(figsize=(8, 0.4 * len(rows) + 1))
    above = [place - 0.2 for place in range(len(rows))]
    below = [place + 0.2 for place in range(len(rows))]
    reserved = [row["reserved_gb"] for row in rows]
    axes.barh(above, reserved, 0.38, color="#4477aa", label="predicted, today's PyTorch")
    axes.barh(
        below,
        [published[script]["gb"] if script in published else 0 for script in scripts],
        0.38, color="#bbbbbb", label="published, PyTorch of 2023",
    )  # fmt: skip
    for place, row in zip(above, rows, strict=True):
        axes.text(row["reserved_gb"] + 0.2, place, memory_of(row), va="center", size="x-small")
    axes.set_yticks(range(len(rows)), [anchor(row["script"]) for row in rows])
    axes.margins(x=0.12, y=0.01)
    axes.invert_yaxis()
    axes.set_xlabel("peak GPU memory, reserved, GB")
    axes.legend(loc="center right", bbox_to_anchor=(1, 0.58))
    _save(figure, path)


def stacked(rows: list[dict], path: Path) -> None:
    """Where the memory goes, rung by rung: the split at the allocated peak."""
    figure, axes = plt.subplots(figsize=(8, 0.35 * len(rows) + 1))
    left = [0.0] * len(rows)
    for kind in KINDS:
        sizes = [row["breakdown_gb"][kind] for row in rows]
        axes.barh(range(len(rows)), sizes, left=left, color=COLORS[kind], label=kind)
        left = [one + other for one, other in zip(left, sizes, strict=True)]
    axes.set_yticks(range(len(rows)), [anchor(row["script"]) for row in rows])
    axes.margins(y=0.01)
    axes.invert_yaxis()
    axes.set_xlabel("predicted GB at the allocated peak, one GPU")
    axes.legend(loc="lower right")
    _save(figure, path)


def check(path: Path) -> None:
    """To be called before any work: ValueError if no figure can be written to `path`."""
    kinds = sorted(plt.figure().canvas.get_supported_filetypes())
    plt.close("all")
    check_file(path, [f".{kind}" for kind in kinds])


def timeline(step: dict, title: str, path: Path) -> None:
    """Allocated memory over one training step, stacked by kind, and what holds its peak.

    `step` is a prediction's "timeline"; ValueError if it is empty.
    """
    if not step:
        raise ValueError("the script took fewer than two optimizer steps")
    course = step["course"]
    figure, axes = plt.subplots(figsize=(9, 4.5))
    axes.stackplot(
        range(len(course)),
        *([sums[kind] / 1e9 for _, sums in course] for kind in KINDS),
        labels=KINDS, colors=[COLORS[kind] for kind in KINDS], linewidth=0,
    )  # fmt: skip
    before = None
    for place, (phase, _) in enumerate(course):
        if phase != before:
            axes.axvline(place, color="black", linewidth=0.5)
            axes.text(place, 1.0, f" {phase}", transform=axes.get_xaxis_transform(), va="bottom")
            before = phase
    axes.set_xlabel("allocations and releases of one training step")
    axes.set_ylabel("allocated GB, predicted")
    axes.set_title(title, pad=18, loc="left")
    axes.margins(x=0)
    _label(axes, step)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize="small")
    _save(figure, path)


def _label(axes, step: dict) -> None:
    """Mark the peak, and within it the share of the largest activations, each with its name."""
    peak, course = step["peak"], step["course"]
    place, sums = peak["place"], course[peak["place"]][1]
    left = place > len(course) / 2
    text = {"ha": "right" if left else "left", "va": "center", "size": "x-small"}
    text["bbox"] = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1}
    side = place + len(course) * (-0.01 if left else 0.01)
    axes.set_ylim(0, 1.12 * peak["bytes"] / 1e9)
    axes.plot([place], [peak["bytes"] / 1e9], "v", color="black", clip_on=False)
    axes.text(side, 1.05 * peak["bytes"] / 1e9, f"peak: {whose(peak)}", **text)
    below = KINDS[: KINDS.index("activations")]
    bottom, lowest = sum(sums[kind] for kind in below) / 1e9, 0.0
    for group in step["activations"]:
        size = group["count"] * group["bytes"] / 1e9
        axes.plot([place, place], [bottom, bottom + size], color="black", marker="_")
        lowest = max(bottom + size / 2, lowest + 0.05 * peak["bytes"] / 1e9)
        axes.text(side, lowest, share(group), **text)
        bottom += size


def whose(row: dict) -> str:
    """Module and line of an allocation, as far as there are such."""
    line = f"line {row['line']}" if row["line"] else ""
    return ", ".join(filter(None, (row["module"], line))) or row.get("phase", "")


def share(group: dict) -> str:
    """How much alike activations hold, and whose they are."""
    return f"{group['count']} × {group['bytes'] / 1e9:.3g} GB, {group['op']}, {whose(group)}"


def _save(figure, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, **(PLAIN if path.suffix == ".svg" else {}))
    plt.close(figure)


def write() -> list[Path]:
    """Draw the README's figures from results/; their paths."""
    rows = json.loads((ROOT / "results" / "predicted.json").read_text())
    compared, split = ROOT / "results" / "predicted.svg", ROOT / "results" / "breakdown.svg"
    bars(rows, whole_runs(ROOT / "results"), compared)
    stacked(rows, split)
    return [compared, split]


if __name__ == "__main__":
    write()
