"""One training step's timeline, drawn from a prediction."""

from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt

from vramcast.kinds import COLORS, KINDS

matplotlib.use("Agg")
matplotlib.rcParams["svg.hashsalt"] = "vramcast"  # the same figure twice is the same file
PLAIN = {"metadata": {"Date": None}}


def formats() -> list[str]:
    """The kinds of files that can be drawn, by their endings."""
    found = sorted(plt.figure().canvas.get_supported_filetypes())
    plt.close("all")
    return found


def timeline(step: dict, title: str, path: Path) -> None:
    """Allocated memory over one training step, stacked by kind, and what holds its peak.

    `step` is a prediction's "timeline". Raises ValueError if it is empty.
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
    """Mark the peak, and the largest activations in it, each with its name."""
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
    """The module and the line that an allocation comes from, as far as they are known."""
    line = f"line {row['line']}" if row["line"] else ""
    return ", ".join(filter(None, (row["module"], line))) or row.get("phase", "")


def share(group: dict) -> str:
    """Number, size and origin of activations of one kind, in words."""
    return f"{group['count']} × {group['bytes'] / 1e9:.3g} GB, {group['op']}, {whose(group)}"


def _save(figure, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, **(PLAIN if path.suffix == ".svg" else {}))
    plt.close(figure)
