"""Predictions in words: for one script as text, for the ladder as a table."""

import functools

from ladder.comparisons import where
from ladder.pictures import COLORS
from ladder.rows import is_range
from vramcast import gpus
from vramcast.options import Options

TODAY = (
    "Predicted peaks in GB. reserved, allocated: of GPU memory; host: of tensors in the host's.\n"
    "≤: at most, where streams share memory (see docs/how-prediction-works.md).\n"
    "How this compares with published figures: --as-of 2023"
)
THEN = (
    "reserved: predicted peak in GB, by the rules of the PyTorch that the published figures were\n"
    "measured with. Where streams share memory it lies between the two, and so should what is "
    "published."
)


@functools.cache
def console():
    """The terminal, or plain text where it is none. (rich: imported once it is known to be here)"""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


def heading(options: Options) -> str:
    """The first line of the table."""
    if options.as_of:
        return f"{'script':28s}  at least  reserved  published    error"
    return f"{'script':28s}  reserved  allocated      host"


def legend(options: Options) -> str:
    """What the table's columns hold."""
    return THEN if options.as_of else TODAY


def progress(script: str, report: dict) -> str:
    """One line on how far a running prediction is."""
    steps = f"{report['steps']} optimizer step{'s' * (report['steps'] != 1)}"
    return f"{script}: {report['phase']}, {steps}, {report['reserved_gb']:.2f} GB reserved so far"


def answer(row: dict, options: Options) -> str:
    """The answer in one line: whether the script fits, or how much it needs."""
    batch = f" with batches of {options.batch_size}" if options.batch_size else ""
    if "batch_size_line" in row:
        batch += f" (the number in line {row['batch_size_line']})"
    name, at_most = f"{row['script']}{batch}", "at most " if is_range(row) else ""
    needs = f"{at_most}{row['reserved_gb']:.2f} GB of GPU memory"
    if "fits" not in row:
        return f"{name} needs {needs} (predicted peak, reserved)"
    if row["may_fit"] and row["reserved_gb"] > options.gpu.memory / 1e9:
        needs = f"{row['reserved_within_gb']:.2f} GB of GPU memory there, with more room {needs}"
    return f"{name} {verdict(row)} {options.gpu.name}: it needs {needs} (predicted peak, reserved)"


def need(row: dict) -> str:
    """What a script needs, in a few words, on a GPU on which it may fit or not."""
    more = f"{row['reserved_gb']:.2f} GB reserved"
    within = row.get("reserved_within_gb")
    if within is None or within >= row["reserved_gb"]:
        return more
    return f"{within:.2f} GB there (with more room, {more})"


def details(row: dict, options: Options) -> list[str]:
    """The details of a prediction, a line for each."""
    module = f", at {row['peak_module']}" if row["peak_module"] else ""
    phase = f" ({row['peak_phase']}{module})" if row["peak_phase"] else ""
    lines = [f"allocated peak: {row['allocated_gb']:.2f} GB{phase}"]
    if is_range(row):
        lines.append(f"reserved: at least {row['reserved_least_gb']:.2f} GB, if the GPU keeps up")
    if "fits" in row:
        lines.append(describe_fit(row, options))
    host = f"host: {row['host_gb']:.2f} GB of tensors"
    if row["host_gb"] - row["host_training_gb"] >= 0.005:
        host += f", {row['host_training_gb']:.2f} GB while it trains"
    lines.append(host)
    if row["cost"]:
        lines.append(describe_cost(row["cost"], options.gpu))
    return lines + [f"note: {note}" for note in dict.fromkeys(row["notes"])]


def split(row: dict):
    """What the allocated peak consists of: figures in words, and a bar if the terminal has colours.

    A `rich.text.Text`; the whole bar is as long as the terminal is wide.
    """
    from rich.text import Text

    kinds = [(kind, size) for kind, size in row["breakdown_gb"].items() if size >= 0.005]
    text, width = Text(), min(console().width - 4, 72)
    if console().is_terminal and console().color_system:
        text.append("  ")
        end = total = 0
        for kind, size in kinds:
            total += size
            cells = round(width * total / row["allocated_gb"]) - end
            text.append("█" * cells, style=COLORS[kind])
            end += cells
        text.append("\n")
    text.append("  ")
    for number, (kind, size) in enumerate(kinds):
        if number:
            text.append(", ")
        text.append(f"{kind} {size:.2f}", style=COLORS[kind])
    return text.append(" GB of it")


def show(row: dict, options: Options) -> None:
    """Print a prediction: the answer, then the details."""
    from rich.text import Text

    colors = {"fits": "green", "may not fit": "yellow", "does not fit": "red"}
    style = f"bold {colors[verdict(row)]}" if "fits" in row else "bold"
    console().print(Text(answer(row, options), style=style))
    first, *rest = details(row, options)
    console().print(Text(f"  {first}"))
    if any(size >= 0.005 for size in row["breakdown_gb"].values()):
        console().print(split(row))
    for line in rest:
        console().print(Text(f"  {line}"))


def verdict(row: dict) -> str:
    """Whether it fits, in words; "may not fit" if it fits only when the prediction is exact."""
    return "fits" if row["fits"] else "may not fit" if row["may_fit"] else "does not fit"


def describe_cost(cost: dict, model: gpus.Model) -> str:
    """One line on what a steady step costs, and on the least time of an epoch."""
    arithmetic = sum(cost["tflop_per_sample"].values())
    moved = "".join(
        f", {cost[key]:.2f} GB a step {where}"
        for key, where in (
            ("to_gpu_gb_per_step", "to the GPU"),
            ("to_host_gb_per_step", "to the host"),
            ("between_gpus_gb_per_step", "between GPUs"),
        )
        if cost[key] >= 0.005
    )
    what, minutes = max(cost["least_minutes_per_epoch"].items(), key=lambda item: item[1])
    gpu = model.name if model.name in gpus.KNOWN else "an A100"  # whose rates another size has
    time = f"{minutes:.2g} minutes" if minutes >= 1 else f"{60 * minutes:.2g} seconds"
    kernels = cost["kernels_per_sample"] * cost["samples_per_step"]
    return (
        f"cost: {arithmetic:.3g} TFLOP a sample, {kernels:.0f} kernels a step{moved}; at least "
        f"{time} an epoch on {gpu} (limited by {what})"
    )


def describe_fit(row: dict, options: Options) -> str:
    """Whether it fits, and by how much."""
    model = options.gpu
    context, memory = model.context / 1e9, model.memory / 1e9
    inside = row["reserved_within_gb"] if row["may_fit"] else row["reserved_gb"]
    rest = memory - context - inside
    told = f"{verdict(row)}, {rest:.2f} GB to spare"
    if not row["may_fit"]:
        told = f"{verdict(row)}, by {-rest:.2f} GB"
    elif inside < row["reserved_gb"]:
        told += " after unused memory was given back"
    if row["may_fit"] and not row["fits"]:
        told += f", where predictions were up to {100 * options.margin:.1f} % low"
    size = f", {memory:.2f} GB" if model.name in gpus.KNOWN else ""
    return (
        f"{model.name}{size}: {told} (about {context:.2f} GB are CUDA's context; "
        f"{2 * model.workspace / 1e9:.2f} GB of what is reserved are cuBLAS's workspaces)"
    )


def ladder_line(row: dict, known: dict | None, options: Options) -> str:
    """A line of the table; `known` is the published row, if there is one."""
    name = f"{row['script'].rpartition('/')[2]:28s}"
    if options.as_of:
        least = f"{row['reserved_least_gb']:8.2f}" if is_range(row) else " " * 8
        cells = [name, least, f"{row['reserved_gb']:8.2f}", *_beside(row, known)]
    else:
        reserved = ("≤ " if is_range(row) else "") + f"{row['reserved_gb']:.2f}"
        cells = [name, f"{reserved:>8s}", f"{row['allocated_gb']:9.2f}", f"{row['host_gb']:8.2f}"]
    return "  ".join([*cells, f"{row['seconds']:6.1f} s"])


def _beside(row: dict, known: dict | None) -> list[str]:
    """The published figure, and how far the prediction is off."""
    if known is None:
        return [" " * 9, " " * 7]
    figure = f"{known['gb']:9.2f}"
    if "what" in known:  # of the model's creation alone
        return [figure, f"(creation: {row['created_gb']:.2f})"]
    if not is_range(row):
        return [figure, f"{100 * (row['reserved_gb'] / known['gb'] - 1):+6.1f}%"]
    return [figure, where(known["gb"], row)]
