"""Answers side by side: on all kinds of GPUs, on several numbers of them, of two scripts."""

from collections.abc import Callable
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from vramcast import evidence, gpus
from vramcast.command.batches import ask
from vramcast.kinds import KINDS
from vramcast.options import Options
from vramcast.prediction import VERDICTS, moved_gb, tflop, word
from vramcast.processes.pool import Pool, available_memory, cores
from vramcast.processes.supervisor import Ended
from vramcast.run.process import MEMORY, NoPrediction

WIDTH = 12  # of a column
LEAST = 0.01  # of the peak: what differs by less is not told
DIFFERENT = 8  # tensors that are told
HEADING = "what differs most at the peak, GB allocated (empty: not among the largest there):"


def answers(
    asked: list[tuple[Path, Options]],
    told: Callable[[int, int], None] = lambda done, of: None,
    own: dict | None = None,
) -> list[dict]:
    """The prediction of each of these scripts, or {"error": why there is none}.

    They run side by side, one a core. `told(done, of)` is called with how far it is. `own`: the
    prediction of the script with its own batches, if that is known.
    """
    found: list[dict] = []
    with Pool(cores(), available_memory()) as pool:
        for script, options in asked:
            pool.submit(ask, script, options, None, False, own, memory=MEMORY)
        for future in pool.in_order():
            told(len(found), len(asked))
            try:
                found.append(future.result())
            except (NoPrediction, Ended) as failure:
                found.append({"error": getattr(failure, "reason", str(failure))})
    return found


def on_all_gpus(script: Path, options: Options, told: Callable[[int, int], None]) -> list[dict]:
    """Whether a script fits each kind of GPU, the one with least memory first.

    It is predicted once for each compute capability, with the number of multiprocessors of that
    capability's largest kind. So a kind close to its limit may differ a little from what `--gpu`
    with its name says.
    """
    kinds = sorted(gpus.KNOWN.values(), key=lambda one: (one.capability, one.memory))
    groups = [list(group) for _, group in groupby(kinds, key=lambda one: one.capability)]
    asked = [(script, replace(options, gpu=group[-1], room=True)) for group in groups]
    found = []
    for group, answer in zip(groups, answers(asked, told)):
        for one in group:
            row = {"gpu": one.name, "memory_gb": one.memory / 1e9}
            found.append(row | (answer if "error" in answer else _verdict(one, answer)))
    return sorted(found, key=lambda row: row["memory_gb"])


def _verdict(gpu: gpus.Model, row: dict) -> dict:
    fits, may_fit = evidence.judged(gpu, row)
    return {"fits": fits, "may_fit": may_fit, "room_gb": row["room_gb"]}


def describe_gpus(rows: list[dict]) -> str:
    """In words: which GPUs a script fits."""
    lines = []
    for verdict in VERDICTS:
        some = [row for row in rows if "error" not in row and _word(row) == verdict]
        if some:
            each = ", ".join(f"{row['gpu']} ({row['memory_gb']:.1f} GB)" for row in some)
            lines.append(f"  {verdict}: {each}")
    for error in dict.fromkeys(row["error"] for row in rows if "error" in row):
        some = [row["gpu"] for row in rows if row.get("error") == error]
        lines.append(f"  no prediction for {', '.join(some)}: {error}")
    return "\n".join(lines)


def _word(row: dict) -> str:
    return word(row["fits"], row["may_fit"])


def on_several(
    script: Path, options: Options, numbers: tuple[int, ...], told: Callable[[int, int], None]
) -> list[dict]:
    """What each GPU needs if the script finds so many of them."""
    asked = [(script, replace(options, gpus=number)) for number in numbers]
    return [{"gpus": number} | row for number, row in zip(numbers, answers(asked, told))]


def tensors(rows: list[dict]) -> str:
    """In words: which tensors, of the largest at the peaks of these predictions, differ most.

    Where one is missing in a column, it is not among the largest there.
    """
    found: dict[str, list[float | None]] = {}
    for number, row in enumerate(rows):
        for one in row["largest"]:
            sizes = found.setdefault(_without_shape(one), [None] * len(rows))
            sizes[number] = (sizes[number] or 0) + one["gb"]
    spread = {
        what: max(filled := [size or 0 for size in sizes]) - min(filled)
        for what, sizes in found.items()
    }
    least = LEAST * max(row["allocated_gb"] for row in rows)
    most = sorted((what for what in found if spread[what] >= least), key=lambda one: -spread[one])
    lines = [f"\n  {HEADING}"] if most else []
    for what in most[:DIFFERENT]:
        cells = "".join(f"  {'' if size is None else f'{size:.2f}':>6}" for size in found[what])
        lines.append(f"  {cells}  {what}")
    return "\n".join(lines)


def _without_shape(one: dict) -> str:
    """The kind and the place of a tensor."""
    return f"{one['kind']}: {one['what'].rpartition(', [')[0] or one['what']}"


def table(titles: list[str], rows: list[dict]) -> str:
    """Predictions as columns: what each needs, what for, and what a step costs."""
    lines = [("", titles)]
    for key, label in (("reserved_gb", "reserved, GB"), ("allocated_gb", "allocated, GB")):
        lines.append((label, [f"{row[key]:.2f}" for row in rows]))
    for kind in KINDS:
        sizes = [row["breakdown_gb"][kind] for row in rows]
        if max(sizes) >= 0.005:
            lines.append((f"  {kind}", [f"{size:.2f}" for size in sizes]))
    lines.append(("host, GB", [f"{row['host_gb']:.2f}" for row in rows]))
    if all(row["cost"] for row in rows):
        lines.append(("TFLOP a sample", [f"{tflop(row['cost']):.3g}" for row in rows]))
        lines.append(("links, GB a step", [f"{moved_gb(row['cost']):.2f}" for row in rows]))
    if all("fits" in row for row in rows):
        lines.append(("verdict", [_word(row) for row in rows]))
    width = max(WIDTH, *map(len, titles))
    return "\n".join(
        f"  {label:17}" + "".join(f"  {cell:>{width}}" for cell in cells) for label, cells in lines
    )
