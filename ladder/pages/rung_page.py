"""The page of a rung, docs/ladder/NN_name.md, and its picture of one training step."""

from ladder.pages.escaping import block, code, comment, plain, prose, target
from ladder.pages.pictures import step
from ladder.pages.tables import Figures, difference, rehearsed_cells, table
from ladder.rows import memory_of
from ladder.rungs import Rung, diff, family, needs_bfloat16, reading_order, several_gpus, stem
from vramcast.kinds import KINDS

EXTRAS = {"torchao": "torchao", "peft": "lora", "bitsandbytes": "lora", "transformers": "bonus"}


def page(place: int, ladder: list[Rung], figures: Figures, source: str) -> str:
    """The Markdown page of a rung; `source` is its script's text."""
    rung = ladder[place]
    parts = [
        f"<!-- made from {comment(rung.script)} and results/ by `make results`: "
        "edit these, not this -->",
        f"# {plain(stem(rung.script))}",
        ways(rung, ladder),
        f"**{prose(rung.title)}**",
        _parent(rung),
        prose(rung.lesson),
        "## Run it",
        _run(rung, source),
        _change(rung),
        "## Memory",
        _memory(rung, figures),
        _picture(rung, figures),
        _split(rung, figures),
        "## Cost",
        _cost(rung, figures),
        "## Rehearsed",
        _rehearsed(figures.rehearsed.get(rung.script)),
        "---",
        ways(rung, ladder),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def picture(rung: Rung, figures: Figures) -> str | None:
    """The page's SVG: a step below its parent's; None if no step is recorded."""
    own, parent = figures.steps.get(rung.script), figures.steps.get(rung.parent or "")
    if not own:
        return None
    beside = parent if parent and family(rung.parent) == family(rung.script) else None
    return step(stem(rung.script), own, stem(rung.parent or ""), beside)


def ways(rung: Rung, ladder: list[Rung]) -> str:
    """The links to the pages before and after, as `reading_order` has them, and to all."""
    names = [stem(one.script) for one in reading_order(ladder)]
    place = names.index(stem(rung.script))
    links = [_link(one, "← ") for one in names[max(place - 1, 0) : place]]
    links.append("[all rungs](index.md)")
    links += [_link(one, after=" →") for one in names[place + 1 : place + 2]]
    return " · ".join(links)


def _link(to: str, before: str = "", after: str = "") -> str:
    return f"[{before}{plain(to)}{after}]({target(to)}.md)"


def _parent(rung: Rung) -> str:
    if rung.parent is None:
        return ""
    parent = _link(stem(rung.parent))
    if rung.variant:
        return f"A variant of {parent}: later scripts do not contain its change."
    return f"Builds on {parent}."


def _run(rung: Rung, source: str) -> str:
    extras = {extra for package, extra in EXTRAS.items() if f"import {package}" in source}
    extras |= {extra for package, extra in EXTRAS.items() if f"from {package}" in source}
    install = f'".[{",".join(sorted(extras))}]"' if extras else "-r requirements.txt"
    several = several_gpus(rung.script)
    gpu = "two or more CUDA GPUs" if several else "one CUDA GPU"
    if needs_bfloat16(rung.script):
        gpu += " with bfloat16 (compute capability 8.0 or newer)"
    told = " See [several GPUs](../several-gpus.md)." if several else ""
    without = f"python rehearse.py {rung.script}\npython -m vramcast {rung.script}"
    return (
        f"{block(f'pip install {install}{chr(10)}{rung.run}')}\n\n"
        f"It needs {gpu}.{told} Without a GPU:\n\n{block(without)}"
    )


def _change(rung: Rung) -> str:
    if rung.parent is None:
        return ""
    shown = "\n".join(diff(rung)).rstrip()
    return (
        f"## What changes\n\n{difference(rung)} lines of code, docstrings aside.\n\n"
        f"{block(shown, 'diff')}"
    )


def _memory(rung: Rung, figures: Figures) -> str:
    lines = [["", "predicted, reserved", "predicted, allocated", "published, reserved", "measured"]]
    for script in filter(None, (rung.parent, rung.script)):
        row, known = figures.predicted.get(script), figures.published.get(script, {})
        whole = f"{known['gb']:.2f} GB" if "gb" in known and "what" not in known else ""
        allocated = f"{row['allocated_gb']:.2f} GB" if row else ""
        lines.append([plain(stem(script)), memory_of(row), allocated, whole, "not yet"])
    known, text = figures.published.get(rung.script, {}), [table(lines, "lrrrr")]
    if "what" in known:
        text.append(
            f"Published is the {known['what']}: {known['gb']:.2f} GB, "
            f"{known['without_gb']:.2f} without."
        )
    row = figures.predicted.get(rung.script)
    if row:
        text.append(
            f"The allocated peak is in the {row['peak_phase']} phase"
            + (f", at {code(row['peak_module'])}." if row["peak_module"] else ".")
            + f" Host: {row['host_gb']:.2f} GB of tensors at the peak, "
            f"{row['host_training_gb']:.2f} GB while it trains (predicted)."
        )
    return "\n\n".join(text)


def _picture(rung: Rung, figures: Figures) -> str:
    if rung.script not in figures.predicted:
        return "No prediction is recorded yet: `make ladder`, then `make results`."
    if not figures.steps.get(rung.script):
        return "No picture: the recorded prediction has no whole training step of this script."
    own = stem(rung.script)
    return (
        f"![Allocated memory over one training step of {plain(own)}, predicted]"
        f"({target(own)}.svg)\n\n"
        "Allocated memory by kind over one training step, from the end of an optimizer's step to "
        "the end of the next, predicted. All panels have the same scale."
    )


def _split(rung: Rung, figures: Figures) -> str:
    scripts = [s for s in (rung.parent, rung.script) if s in figures.predicted]
    lines = [["GB at the allocated peak, predicted", *(plain(stem(script)) for script in scripts)]]
    for kind in KINDS:
        sizes = [figures.predicted[script]["breakdown_gb"][kind] for script in scripts]
        lines.append([kind, *(f"{size:.2f}" for size in sizes)])
    return table(lines, "l" + "r" * len(scripts)) if scripts else ""


def _cost(rung: Rung, figures: Figures) -> str:
    row = figures.predicted.get(rung.script)
    if not row:
        return "No prediction is recorded yet."
    if not row.get("cost"):
        return "Not counted: the prediction saw no steady training step."
    cost, shares = row["cost"], figures.costs.get(rung.script)
    flop = sum(cost["tflop_per_sample"].values())
    beside = ""
    if shares and rung.parent and family(rung.parent) == family(rung.script):
        beside = f", {shares[0]:.2f} times its parent's and {shares[1]:.2f} times the trunk's"
    lines = [
        f"- FLOPs: {flop:.3g} TFLOP a sample{beside}.",
        f"- Kernels: {cost['kernels_per_sample']:.0f} a sample, in batches of "
        f"{cost['samples_per_step']} a step.",
    ]
    for key, way in (
        ("to_gpu_gb_per_step", "from the host to the GPU"),
        ("to_host_gb_per_step", "from the GPU to the host"),
        ("between_gpus_gb_per_step", "between GPUs"),
    ):
        if cost[key] >= 0.005:
            lines.append(f"- Moved {way}: {cost[key]:.2f} GB a step.")
    return "\n".join(lines) + "\n\nCounted by the prediction; time is not predicted."


def _rehearsed(row: dict | None) -> str:
    ran, accuracy = rehearsed_cells(row)
    if row is None or "error" in row:
        return f"On a CPU with stand-ins: {ran}."
    data = "short reviews" if family(row["script"]) == "language models" else "small images"
    return (
        f"On a CPU, with a small model and {data} in the place of the real ones, it ran in {ran}; "
        f"test accuracy there: {accuracy}. That shows that the script runs and learns, and says "
        "nothing about its accuracy on the real data."
    )
