"""What would make a script need less: each technique predicted, and the smallest set that fits.

Each is applied to the script from outside (vramcast/techniques/) and the whole script predicted
anew. What is said of lines is how many the ladder's own scripts need for it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from vramcast.command.side_by_side import answers
from vramcast.options import SEVERAL, Options
from vramcast.prediction import Prediction, moved_gb, need, tflop, verdict
from vramcast.techniques.catalog import (
    KNOWN,
    LARGER,
    OTHER,
    ROUNDED,
    SAME,
    STEP,
    UNUSED,
    Technique,
    together,
)

LEAST = 0.01  # the share of memory that a technique has to save to be worth its lines
SHARE = 0.01  # of the allocated peak, below which a kind of memory is not worth a technique
CHANGES = (SAME, LARGER, ROUNDED, OTHER)  # about the training, the least first
TRIES = 4  # sets that are tried in each round of a search


@dataclass(frozen=True)
class Tried:
    """A set of techniques, and what the script needs with it."""

    techniques: tuple[str, ...]
    row: dict | None  # its prediction; None if there is none
    error: str = ""  # then this says why
    gpus: int = 1  # of which the prediction is one

    @property
    def reserved(self) -> float:
        """GB reserved; without end if it was not predicted."""
        return float("inf") if self.row is None else self.row["reserved_gb"]

    @property
    def fits(self) -> bool:
        return self.row is not None and self.row.get("fits", False)

    def report(self) -> dict:
        """It as JSON has it."""
        each = [KNOWN[name] for name in self.techniques]
        found: dict = {
            "techniques": list(self.techniques),
            "lines": sum(one.lines for one in each),
            "training": max((one.changes for one in each), key=CHANGES.index),
        }
        if self.gpus > 1:
            found["gpus"] = self.gpus
        if self.row is None:
            return found | {"error": self.error}
        keys = ("reserved_gb", "allocated_gb", "host_gb", "fits", "may_fit", "cost", "notes")
        return found | {key: self.row[key] for key in keys if key in self.row}


def candidates(row: dict, options: Options) -> tuple[list[str], dict[str, str]]:
    """The techniques worth predicting for a script of this prediction, and why others are not."""
    found, others = [], {}
    for name, one in KNOWN.items():
        if name in options.techniques or not together(*options.techniques, name):
            continue
        if one.missing:
            others[name] = f"needs the package {one.package}"
        elif name == "fsdp2" and row.get("groups"):
            others[name] = "is for a script that trains on one GPU"
        elif not _applies((*options.techniques, name), options):
            others[name] = "is not applied from outside to a script for several GPUs"
        elif why := _useless(one, row):
            others[name] = why
        else:
            found.append(name)
    return found, others


def _applies(techniques: tuple[str, ...], options: Options) -> bool:
    """Whether a set can be applied to one of so many GPUs."""
    one_gpu = options.gpus == 1 or "fsdp2" in techniques  # is what the script finds
    return one_gpu or all(KNOWN[name].several for name in techniques)


def _options(options: Options, techniques: tuple[str, ...]) -> Options:
    """The options with techniques, of which one may need several GPUs."""
    several = options.gpus == 1 and "fsdp2" in techniques
    return replace(options, techniques=techniques, gpus=SEVERAL if several else options.gpus)


def _useless(one: Technique, row: dict) -> str:
    """Why a technique cannot save memory, judged by what the peak consists of; "" if it may."""
    if one.slot == "batch" and not row.get("batch_size"):
        return "the script has no DataLoader whose batches could be split"
    if _share(one, row) >= SHARE:
        return ""
    if one.kinds == (STEP,):
        return f"the peak is not in the {STEP}"
    return f"next to no {' or '.join(one.kinds)} at the peak"


def _share(one: Technique, row: dict) -> float:
    """The share of the peak that a technique could make less, at most."""
    if not row["allocated_gb"] or not row["reserved_gb"]:
        return 0
    if one.kinds == (STEP,):
        return float(row["peak_phase"] == STEP)
    if one.kinds == (UNUSED,):
        return 1 - row["allocated_gb"] / row["reserved_gb"]
    return sum(row["breakdown_gb"].get(kind, 0) for kind in one.kinds) / row["allocated_gb"]


class WhatIf:
    """Predicts a script with techniques, side by side on the cores."""

    def __init__(self, script: Path, options: Options, row: dict, told: Callable) -> None:
        """`row`: its prediction without them. `told(done, of)` is called with how far it is."""
        self.script, self.options, self.row, self.told = script, options, row, told
        self.tried: dict[frozenset, Tried] = {}

    def each(self, names: list[str]) -> list[Tried]:
        """Each of these techniques alone, the most useful first."""
        found = self.predict([(*self.options.techniques, name) for name in names])
        return sorted(found, key=lambda one: one.reserved)

    def predict(self, sets: list[tuple[str, ...]]) -> list[Tried]:
        """These sets of techniques, in their order; none is predicted twice."""
        new = [one for one in dict.fromkeys(sets) if frozenset(one) not in self.tried]
        asked = [(self.script, _options(self.options, one)) for one in new]
        for one, (_, options), row in zip(new, asked, answers(asked, self.told, self.row)):
            error = row.get("error", "")
            self.tried[frozenset(one)] = Tried(one, None if error else row, error, options.gpus)
        return [self.tried[frozenset(one)] for one in sets]

    def smallest(self, singles: list[Tried]) -> Iterator[Tried]:
        """Better and better sets of techniques, until one fits; the last is the best found.

        First of those that leave the training as it is, then of those that round otherwise, then
        of all. In each round those are tried that may save most, by what the peak consists of: the
        set grows by one, or changes one for another; of several that fit, the one with the fewest
        lines is taken. What is not needed is left out at the end.
        """
        best = Tried(self.options.techniques, self.row)
        failed = {one.techniques[-1] for one in singles if one.row is None}
        known = [one for one in KNOWN.values() if one.name not in failed and not one.missing]
        for allowed in (CHANGES[:2], CHANGES[:3], CHANGES):
            while not best.fits:
                by_share = sorted(known, key=lambda one: -_share(one, best.row))
                names = [one.name for one in by_share if one.changes in allowed]
                sets = [one for one in _next(best.techniques, names) if self._may(one)][:TRIES]
                found = min(self.predict(sets), key=_cost_to_fit, default=best)
                if not (found.fits or found.reserved < (1 - LEAST) * best.reserved):
                    break
                best = found
                yield best
        if best.fits:
            yield from self._without_needless(best)

    def _may(self, techniques: tuple[str, ...]) -> bool:
        """Whether a set can be applied to this script on the GPUs that there are."""
        new = "fsdp2" in techniques and "fsdp2" not in self.options.techniques
        one_gpu = self.options.gpus == 1 or self.row.get("groups")  # or it is for several already
        return _applies(techniques, self.options) and not (new and one_gpu)

    def _without_needless(self, best: Tried) -> Iterator[Tried]:
        """Smaller sets that fit as well."""
        for name in best.techniques:
            smaller = tuple(one for one in best.techniques if one != name)
            if name in self.options.techniques or not smaller:
                continue
            if not self._may(smaller):
                continue
            (found,) = self.predict([smaller])
            if found.fits:
                best = found
                yield best


def _cost_to_fit(tried: Tried) -> tuple[bool, int, float]:
    """The order of sets: those that fit first, by the lines to write; then by what they need.

    Of those that do not fit, lines do not count.
    """
    lines = sum(KNOWN[name].lines for name in tried.techniques) if tried.fits else 0
    return not tried.fits, lines, tried.reserved


def _next(techniques: tuple[str, ...], names: list[str]) -> Iterator[tuple[str, ...]]:
    """A set with one technique more, or another in the place of one of its slot."""
    for name in names:
        if name not in techniques:
            kept = tuple(one for one in techniques if KNOWN[one].slot != KNOWN[name].slot)
            if together(*kept, name):
                yield (*kept, name)


def table(singles: list[Tried], others: dict[str, str], row: dict) -> str:
    """What each technique saves beside the script as it is, and why others are not in the table."""
    least = LEAST * row["reserved_gb"]
    saved = [one for one in singles if row["reserved_gb"] - one.reserved >= least]
    lines = [HEADING, *(_line(one, row) for one in saved)] if saved else []
    nothing = [one.techniques[-1] for one in singles if one.row and one not in saved]
    if nothing:
        lines.append(f"  less than 1 %: {', '.join(nothing)}")
    others = {one.techniques[-1]: one.error for one in singles if not one.row} | others
    for why in dict.fromkeys(others.values()):
        names = ", ".join(name for name, said in others.items() if said == why)
        lines.append(f"  not tried: {names}: {why}")
    return "\n".join([*lines, LEGEND] if saved else lines)


HEADING = (
    f"  {'technique':24} {'needs':>7} {'saves':>7} {'FLOPs':>7} {'links':>7} {'lines':>5}  "
    f"{'the training':18}  what is done (page in docs/)"
)
LEGEND = (
    "  needs, saves: GB reserved; FLOPs: added to a step; links: GB a step more between host, GPU "
    "and GPUs;\n  lines: to write, about"
)


def _line(tried: Tried, row: dict) -> str:
    """A line of the table: a single technique beside the script without it."""
    one = KNOWN[tried.techniques[-1]]
    now, before = tflop(tried.row["cost"]), tflop(row["cost"])
    more = f"{100 * (now / before - 1):+.0f} %" if before and now else ""
    moved = moved_gb(tried.row["cost"]) - moved_gb(row["cost"])
    links = f"{moved:+.2f}" if abs(moved) >= 0.005 else ""
    name = f"{one.name} (--gpus {tried.gpus})" if one.name == "fsdp2" else one.name
    return (
        f"  {name:24} {tried.reserved:7.2f} {row['reserved_gb'] - tried.reserved:7.2f} "
        f"{more:>7} {links:>7} {one.lines:5d}  {one.changes:18}  {one.what} ({one.page})"
    )


def told(tried: Tried, options: Options) -> str:
    """One line on a set of techniques."""
    found = Prediction.of(tried.row, options)
    return f"{', '.join(tried.techniques)}: {need(found)}, {verdict(found)}"
