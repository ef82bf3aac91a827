"""The ladder's tables: published, predicted and rehearsed figures in columns of their own."""

from dataclasses import dataclass
from pathlib import Path

from ladder.pages.costs import relative
from ladder.pages.escaping import line, plain, target
from ladder.rows import by_script, memory_of, whole_runs
from ladder.rungs import (
    FAMILIES,
    Rung,
    changed,
    diff,
    number,
    of_family,
    several_gpus,
    stem,
)
from vramcast.gpus import DEFAULT
from vramcast.techniques import catalog


@dataclass(frozen=True)
class Figures:
    """All that results/ knows of the scripts, by script."""

    published: dict[str, dict]
    whole: dict[str, dict]  # of these, the peaks of whole runs
    predicted: dict[str, dict]
    rehearsed: dict[str, dict]
    steps: dict[str, dict]
    costs: dict[str, tuple[float, float]]  # FLOPs, in the parent's and in the trunk's

    @classmethod
    def read(cls, ladder: list[Rung], results: Path) -> "Figures":
        published, predicted, rehearsed, steps = (
            by_script(results / f"{name}.json")
            for name in ("published", "predicted", "rehearsed", "steps")
        )
        costs = relative(ladder, predicted)
        return cls(published, whole_runs(results), predicted, rehearsed, steps, costs)


def technique(rung: Rung) -> str:
    """What a rung does, in a few words: its first line up to the colon."""
    return rung.title.partition(":")[0]


def table(lines: list[list[str]], align: str) -> str:
    """A Markdown table; the first line is its head, and `align` has an l or r for each column."""
    marks = ["---" if letter == "l" else "--:" for letter in align]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [lines[0], marks, *lines[1:]])


def ladder_table(rungs: list[Rung], figures: Figures, root: str, pages: str) -> str:
    """A model's table: batch, memory and FLOPs of each rung, beside what is published.

    "Saved" is in percent of what the first script reserves, "FLOPs" are per sample and
    relative to the first script. `root` and `pages` are the paths for links to scripts and pages.
    """
    lines = [
        [
            "script", "what changes", "batch", "memory, predicted", "saved", "FLOPs",
            "memory, published",
        ]
    ]  # fmt: skip
    trunk = figures.predicted.get(rungs[0].script)
    main = None  # the last script that was no variant
    for rung in rungs:
        row, cost = figures.predicted.get(rung.script), figures.costs.get(rung.script)
        own = stem(rung.script)
        where = f"variant of {number(rung.parent)}, " if rung.variant else ""
        if not rung.variant:
            where = f"on {number(rung.parent)}, " if rung.parent not in (None, main) else ""
            main = rung.script
        lines.append(
            [
                f"[{plain(own)}]({root}{target(rung.script)})",
                f"{line(technique(rung))} ({where}[{difference(rung)}]({pages}{target(own)}.md))",
                batch(rung, row),
                memory_of(row),
                saved(row, trunk) if rung is not rungs[0] else "",
                f"× {cost[1]:.2f}" if cost else "",
                published_memory(figures.published.get(rung.script)),
            ]
        )
    return table(lines, "llrrrrr")


def batch(rung: Rung, row: dict | None) -> str:
    """How many samples an optimizer step sees: on each GPU, where there are several."""
    if row is None:
        return ""
    return f"{row['batch_size']} a GPU" if several_gpus(rung.script) else str(row["batch_size"])


def difference(rung: Rung) -> str:
    """How many lines a rung adds and removes ("+1 −1"); "page" if it builds on nothing."""
    if rung.parent is None:
        return "page"
    added, removed = changed(diff(rung))
    return f"+{added} −{removed}"


def saved(row: dict | None, trunk: dict | None) -> str:
    """How much less a script reserves than the trunk, in percent; "–" or "" if it is not less."""
    if not row or not trunk:
        return ""
    share = 100 * (1 - row["reserved_gb"] / trunk["reserved_gb"])
    return f"{share:.0f} %" if share >= 0.5 else "–"


def published_memory(row: dict | None) -> str:
    """The published peak of a whole run, in GB; "" if there is none."""
    return "" if row is None or "what" in row else f"{row['gb']:.2f} GB"


def more_table(rungs: list[Rung], figures: Figures) -> str:
    """A table of published time and accuracy, and of the rehearsal's precision and accuracy."""
    lines = [
        [
            "script", "published: time", "published: accuracy", "rehearsed: what ran",
            "rehearsed: accuracy",
        ]
    ]  # fmt: skip
    for rung in rungs:
        known = figures.published.get(rung.script, {})
        lines.append(
            [
                f"[{plain(stem(rung.script))}]({target(stem(rung.script))}.md)",
                f"{known['minutes']:.2f} min" if "minutes" in known else "",
                f"{known['accuracy']:.2f} %" if "accuracy" in known else "",
                *rehearsed_cells(figures.rehearsed.get(rung.script)),
            ]
        )
    return table(lines, "lrrlr")


def rehearsed_cells(row: dict | None) -> list[str]:
    """The rehearsal's cells of a row: the precision that ran, and the accuracy."""
    if row is None:
        return ["not run", ""]
    if "error" in row:
        return ["failed", ""]
    ran = row["precision"] or ""
    if row["ranks"] > 1:
        ran += f"; {row['ranks']} ranks with {row['parameters_held']:.0%} of the parameters each"
    accuracy = "" if row["accuracy"] is None else f"{100 * row['accuracy']:.1f} %"
    if row["learned"] is False:
        nan = ", loss NaN" if row["loss_last"] is None else ""
        accuracy = f"did not learn: {accuracy}{nan}"
    return [ran, accuracy]


def how_far(ladder: list[Rung], figures: Figures) -> str:
    """The README's two lines of result: ViT-L/16's lowest figure, and ViT-H/14's on one GPU."""
    small = of_family(ladder, FAMILIES[0])
    rows = [figures.predicted[rung.script] for rung in small if rung.script in figures.predicted]
    trunk, best = rows[0], min(rows, key=lambda row: row["reserved_gb"])
    equal = min(
        (row for row in rows if row["batch_size"] == trunk["batch_size"]),
        key=lambda row: row["reserved_gb"],
    )
    large = [
        figures.predicted[rung.script]
        for rung in of_family(ladder, FAMILIES[1])
        if rung.script in figures.predicted
    ]
    on_one = min(
        (row for row in large if not several_gpus(row["script"])),
        key=lambda row: row["reserved_gb"],
    )
    parents = {rung.script: rung.parent for rung in ladder}
    whole = min(
        (row for row in rows if not low_rank(row["script"], parents)),
        key=lambda row: row["reserved_gb"],
    )
    return (
        f"**{trunk['reserved_gb']:.1f} GB → {best['reserved_gb']:.2f} GB**: the same model and "
        "data, one technique a script. "
        f"Training all weights takes at least {whole['reserved_gb']:.2f} GB "
        f"({number(whole['script'])}); below that, LoRA trains small adapters and leaves the "
        "weights as they are. "
        f"The smallest figure is for batches of {best['batch_size']} images. With batches of "
        f"{equal['batch_size']}, as at the start, the least is {equal['reserved_gb']:.2f} GB "
        f"({number(equal['script'])}). "
        "**ViT-H/14** has twice the parameters and seven times the tokens: it takes "
        f"{large[0]['reserved_gb']:.2f} GB on one GPU, and {on_one['reserved_gb']:.2f} GB with "
        f"QLoRA ({number(on_one['script'])}).\n\n"
        "These figures are *predictions* of the memory that PyTorch reserves. CUDA's context comes "
        f"on top: on an A100 about {DEFAULT.context / 1e9:.2f} GB. Nobody has measured "
        "these scripts on a GPU yet."
    )


def low_rank(script: str, parents: dict[str, str | None]) -> bool:
    """Whether a script trains low-rank adapters alone: it is LoRA's, or builds on it."""
    parent = parents.get(script)
    return "lora" in script or (parent is not None and low_rank(parent, parents))


def techniques_table() -> str:
    """The techniques that can be applied to a script from outside, in Markdown."""
    lines = [
        "| `--with` | what is done | the training | lines | page |",
        "| --- | --- | --- | --: | --- |",
    ]
    for one in catalog.KNOWN.values():
        needs = f" (needs {one.package})" if one.package else ""
        name = one.page.rpartition("/")[2].partition("_")[0]
        page = f"[{name}]({one.page}.md)"
        lines.append(f"| `{one.name}` | {one.what}{needs} | {one.changes} | {one.lines} | {page} |")
    return "\n".join(lines)
