"""The result of a prediction, made of what was seen while the script ran."""

import math
import re

from vramcast import evidence
from vramcast.cost.counter import Cost
from vramcast.device import compiler
from vramcast.libraries.context import Loaders
from vramcast.loops.watched import Watched
from vramcast.memory import peaks
from vramcast.memory.storages import Storage
from vramcast.memory.tracker import Tracker
from vramcast.options import Options

LARGEST = 20  # rows of tensors with --why
NUMBERED = re.compile(r" in \S+ \(")  # a module's name
EMULATED = (
    "{} has no arithmetic in bfloat16: PyTorch emulates it, slowly. It has float16: "
    "torch.autocast with torch.float16 and a GradScaler, or fp16=True in a Trainer"
)
MUCH = 1e9  # bytes that are reserved and unused: a note says how much suffices


def of(tracker: Tracker, watched: Watched, loaders: Loaders, cost: Cost, options: Options) -> dict:
    """Peaks, and what they consist of; in GB of 1e9 bytes where a key says so.

    Where the script uses several GPUs, the figures are those of the fullest, and "devices" has
    those of each.
    """
    host, _, _ = peaks.peak(tracker.events, "cpu")
    like, groups = _like(tracker, watched, cost), len(tracker.groups)
    if cost.emulated(options.gpu):
        watched.notes.append(EMULATED.format(options.gpu.name))
    rows = {gpu: _of_gpu(gpu, tracker, watched, options, like) for gpu in watched.allocators.used()}
    fullest = max(rows.values(), key=_fullness)
    result = fullest | {
        "host_gb": host / 1e9,
        "host_training_gb": peaks.training_peak(tracker.events, "cpu") / 1e9,
        "like": like,
        "groups": groups,
        "batch_size": loaders.batch_size,
        "samples": loaders.samples,
        "left_out": _left_out(watched),
        "notes": list(dict.fromkeys(watched.notes)),
    }
    if watched.compiled:
        result["compiled"] = True
    if len(rows) > 1:
        result["devices"] = [{"device": f"cuda:{gpu}"} | row for gpu, row in rows.items()]
    return result


def _fullness(row: dict) -> tuple:
    """By what the fullest of several GPUs is found: it fits least, and reserves most."""
    return not row.get("may_fit", True), not row.get("fits", True), row["reserved_gb"]


def _of_gpu(gpu: int, tracker: Tracker, watched: Watched, options: Options, like: str) -> dict:
    """The figures of one GPU."""
    allocator = watched.allocators[gpu]
    events = watched.allocators.part(tracker.events, gpu)
    _, alive, last = peaks.peak(events, "cuda")
    allocated = allocator.max_allocated  # the sum of these blocks
    sums = peaks.breakdown(tracker, alive)
    if allocator.max_reserved > max(2 * allocated, allocated + MUCH):
        _note_less(events, allocated, watched.notes)
    result = {
        "reserved_gb": allocator.max_reserved / 1e9,
        "allocated_gb": allocated / 1e9,
        "breakdown_gb": {kind: size / 1e9 for kind, size in sums.items()},
        "peak_phase": last.phase if last else "",
        "peak_module": last.module if last else "",
        "created_gb": watched.created.get(gpu, 0) / 1e9,
    }
    if any(what == "use" for what, _, _ in events):  # several streams share memory
        result["reserved_least_gb"] = peaks.replay(events).max_reserved / 1e9
    if options.why:
        result["largest"] = _largest(tracker, alive)
        stays = peaks.breakdown(tracker, peaks.after_last_step(events))
        result["after_step_gb"] = {kind: size / 1e9 for kind, size in stays.items()}
    if options.capacity:
        result |= _fit(events, options, like, len(tracker.groups))
    if options.room:
        result["room_gb"] = _room(events, allocated, allocator.max_reserved)
    return result


def _largest(tracker: Tracker, alive: list[Storage]) -> list[dict]:
    """Of what is alive at the peak, the tensors that take most.

    Those that differ only in the number of their block ("layers.3") are one row ("layers.*").
    """
    rows: dict[tuple[str, str], list[int]] = {}
    for storage in alive:
        origin = tracker.origins.of.get(storage)
        told = origin.told(storage) if origin else "a library's workspace"
        what = NUMBERED.sub(lambda found: re.sub(r"(?<!\w)\d+(?!\w)", "*", found[0]), told)
        rows.setdefault((tracker.kind(storage), what), []).append(storage.block)
    found = sorted(rows.items(), key=lambda item: -sum(item[1]))[:LARGEST]
    return [
        {"gb": sum(sizes) / 1e9, "count": len(sizes), "kind": kind, "what": what}
        for (kind, what), sizes in found
    ]


def _note_less(events: list[tuple], allocated: int, notes: list[str]) -> None:
    """Note that much less memory suffices, where a tensor that grows leaves many segments unused.

    With little memory, PyTorch gives unused segments back before it gives up.
    """
    least = peaks.replay(events, capacity=1.1 * allocated, prompt=False)
    if least is not None:
        notes.append(
            "most of what is reserved is unused, and given back where memory is short: "
            f"{least.max_reserved / 1e9:.2f} GB reserved suffice"
        )


def _left_out(watched: Watched) -> list[dict]:
    """The loops that were not run to their end: their iterations, those left, and the place."""
    for line, on in watched.unseen.items():
        watched.notes.append(
            f"{line}: its condition changes after {on:,} more iterations, which were not run"
        )
    return [
        {"what": what, "place": place, "done": done, "left": left}
        for (what, place), (done, left) in watched.unfinished.items()
    ]


def _room(events: list[tuple], low: int, high: int) -> float:
    """The least memory in GB (rounded up to a thousandth) with which the script runs.

    With little memory, PyTorch gives unused segments back before it gives up. So the least is
    between what is allocated and what is reserved when there is no need to save (bytes).
    """
    low, high = math.floor(low / 1e6), math.ceil(high / 1e6)
    while high - low > 1:
        middle = (low + high) // 2
        if peaks.replay(events, capacity=middle * 10**6, prompt=False):
            high = middle
        else:
            low = middle
    return high / 1000


def _like(tracker: Tracker, watched: Watched, cost: Cost) -> str:
    """Which kind of script it is, as for its error: one of evidence.LIKE."""
    if watched.compiled or compiler.COMPILED in watched.notes:
        return "compiled"
    if tracker.groups:
        return "sharded"
    if watched.quantized:
        return "quantized"
    return "convolutions" if cost.mostly_convolutions() else "plain"


def _fit(events: list[tuple], options: Options, like: str, groups: int) -> dict:
    """Whether a GPU's memory suffices for the prediction, and for its error and what it leaves out.

    PyTorch gives unused segments back before it gives up.
    """
    exact, sure = evidence.limits(options.gpu, like, groups)
    within = peaks.replay(events, capacity=exact, prompt=False)
    surely = peaks.replay(events, capacity=sure, prompt=False)
    return {
        "fits": surely is not None,
        "may_fit": within is not None,
        "reserved_within_gb": within.max_reserved / 1e9 if within else None,
    }
