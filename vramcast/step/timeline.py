"""A look into one training step: its memory over time, and what its peak consists of."""

import base64
import re
from collections import Counter
from collections.abc import Callable, Iterable

from vramcast.kinds import KINDS
from vramcast.memory import peaks
from vramcast.memory.storages import Storage
from vramcast.options import Options
from vramcast.step import snapshot
from vramcast.step.lines import Lines

Kind = Callable[[Storage], str]  # names what a storage is for
LARGEST = 3  # activations that are named


def inside(events: list[tuple], kind: Kind, lines: Lines, options: Options) -> dict:
    """As far as asked for: "timeline" (see `last`) and "snapshot" (a pickle in base64).

    `events`: the log of one GPU.
    """
    found = {}
    if options.timeline:
        found["timeline"] = last(events, kind, lines)
    if options.snapshot:
        content = snapshot.take(events, lines, kind, prompt=False)
        found["snapshot"] = base64.b64encode(content).decode()
    return found


def last(events: list[tuple], kind: Kind, lines: Lines) -> dict:
    """The last whole training step, from one optimizer step's end to the next; {} without one.

    "course": phase and bytes of each kind after every allocation or release on the GPU. "peak":
    where in the course the peak is ("place"), its bytes, phase, module and line. "activations": the
    largest ones at the peak.
    """
    ends = [n for n, (what, _, other) in enumerate(events) if (what, other) == ("mark", "step")]
    if len(ends) < 2:
        return {}
    sums, course, phase = dict.fromkeys(KINDS, 0), [], "forward"
    for number, (what, storage, other) in enumerate(events[: ends[-1]]):
        if (what, other) == ("mark", "step"):
            phase = "between steps"
        if what not in ("allocate", "free") or not peaks.size_on(storage, "cuda"):
            continue
        sign = 1 if what == "allocate" else -1
        sums[kind(storage)] += sign * peaks.size_on(storage, "cuda")
        phase = storage.phase if what == "allocate" else phase
        if number > ends[-2]:
            course.append((phase, dict(sums)))
    most, alive, top = peaks.peak(events[: ends[-1]], "cuda", ends[-2] + 1)
    if top is None:
        return {}
    totals = [sum(sums.values()) for _, sums in course]
    return {
        "course": course,
        "peak": {
            "place": totals.index(max(totals)), "bytes": most, "phase": top.phase,
            "module": top.module, "line": lines.line(top),
        },
        "activations": largest(
            [storage for storage in alive if kind(storage) == "activations"], lines
        ),
    }  # fmt: skip


def largest(storages: Iterable[Storage], lines: Lines) -> list[dict]:
    """The largest of these storages; those of repeated layers count together."""
    alike = Counter(
        (
            re.sub(r"\d+", "*", storage.module),
            storage.op.removeprefix("aten.").removesuffix(".default"),
            peaks.size_on(storage, "cuda"), lines.line(storage),
        )
        for storage in storages
    )  # fmt: skip
    order = sorted(alike.items(), key=lambda item: -item[0][2] * item[1])
    return [
        {"module": module, "op": op, "bytes": size, "line": line, "count": count}
        for (module, op, size, line), count in order[:LARGEST]
    ]
