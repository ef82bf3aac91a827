"""Predictions in words: one script's, and the ladder's as a table."""

from prediction import gpus
from prediction.options import Options

HEADING = f"{'script':28s}  reserved    behind  Adam 2023  allocated  published    error"
LEGEND = (
    "reserved, allocated: predicted peaks in GB. behind: reserved, if the GPU is far behind the\n"
    "CPU. Adam 2023: reserved, with Adam as PyTorch had it when the published figures were\n"
    "measured; the error is that one's, where there is one."
)


def progress(script: str, report: dict) -> str:
    """How far a prediction is, in a line."""
    steps = f"{report['steps']} optimizer step{'s' * (report['steps'] != 1)}"
    return f"{script}: {report['phase']}, {steps}, {report['reserved_gb']:.2f} GB reserved so far"


def describe(row: dict, options: Options) -> str:
    """A prediction in a few lines."""
    late = row.get("reserved_late_gb", 0)
    reserved = f"{row['reserved_gb']:.2f}"
    if late - row["reserved_gb"] >= 0.005:
        reserved += f" to {late:.2f}"
    kinds = ", ".join(f"{kind} {size:.2f}" for kind, size in row["breakdown_gb"].items())
    module = f", {row['peak_module']}" if row["peak_module"] else ""
    batch = f", batches of {options.batch_size}" if options.batch_size else ""
    if "batch_size_line" in row:
        batch += f" (the number in line {row['batch_size_line']})"
    lines = [
        f"{row['script']}{batch}: {reserved} GB reserved, {row['allocated_gb']:.2f} GB allocated "
        "(predicted peaks)",
        f"  then: {kinds}",
        f"  where: {row['peak_phase']}{module}",
        f"  host: {row['host_gb']:.2f} GB of tensors, {row['host_training_gb']:.2f} GB of them "
        "while it trains",
        *([f"  {describe_cost(row['cost'], options.gpu)}"] if row["cost"] else []),
        *(f"  note: {note}" for note in dict.fromkeys(row["notes"])),
    ]
    return "\n".join(lines)


def describe_cost(cost: dict, model: gpus.Model) -> str:
    """What a steady step costs, and what an epoch takes at least, in a line."""
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
    return (
        f"cost: {arithmetic:.3g} TFLOP and {cost['kernels_per_sample']:.0f} kernels a sample"
        f"{moved}; at least {minutes:.2g} minutes an epoch on {model.name} (bound by {what})"
    )


def describe_fit(row: dict, model: gpus.Model) -> str:
    """Whether it fits, and by how much."""
    context, memory = model.context / 1e9, model.memory / 1e9
    inside = row["reserved_within_gb"]
    needed = inside if row["fits"] else row["reserved_gb"]
    rest = memory - context - needed
    verdict = f"fits, {rest:.2f} GB to spare" if row["fits"] else f"does not fit, by {-rest:.2f} GB"
    if row["fits"] and inside < row["reserved_gb"]:
        verdict += " after unused memory was given back"
    return (
        f"  {model.name}, {memory:.2f} GB: {verdict} (about {context:.2f} GB are CUDA's context; "
        f"{2 * model.workspace / 1e9:.2f} GB of what is reserved are cuBLAS's workspaces)"
    )


def ladder_line(row: dict, known: dict | None) -> str:
    """One line of the table; `known` is the published row."""
    cells = [
        f"{row['script'].rpartition('/')[2]:28s}",
        f"{row['reserved_gb']:8.2f}",
        f"{row['reserved_late_gb']:8.2f}" if "reserved_late_gb" in row else " " * 8,
        f"{row['reserved_2023_gb']:9.2f}" if "reserved_2023_gb" in row else " " * 9,
        f"{row['allocated_gb']:9.2f}",
    ]
    if known is None:
        cells += [" " * 9, " " * 7]
    elif "what" in known:  # of the model's creation alone
        cells += [f"{known['gb']:9.2f}", f"(creation: {row['created_gb']:.2f})"]
    else:
        value = row.get("reserved_2023_gb", row["reserved_gb"])
        cells += [f"{known['gb']:9.2f}", f"{100 * (value / known['gb'] - 1):+6.1f}%"]
    cells.append(f"{row['seconds']:6.1f} s")
    return "  ".join(cells)
