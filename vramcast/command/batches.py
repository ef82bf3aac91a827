"""Predictions with another batch size than the script's own, and the largest that fits a GPU."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from vramcast import evidence
from vramcast.options import Options
from vramcast.run import source as own_number
from vramcast.run.process import NoPrediction, first_batch_size, predict
from vramcast.techniques.catalog import MICRO_BATCHES

TRIES = 8  # predictions at most in a search
MORE = 12  # and for the exact number
UNMOVED = "what the peak consists of does not depend on the loader's batches"
FOLD = 16  # times as large batches as others, without a change: larger ones are not tried
NUMBERS = 8  # numbers of a source that are tried at most


def ask(script: Path, options: Options, told=None, show: bool = False, own=None) -> dict:
    """A prediction, with the batch size and the techniques that were asked for.

    `own`: the prediction of the unchanged script, or one that came from here, if there is one.
    Raises NoPrediction.
    """
    if "accumulate" in options.techniques:
        return accumulated(script, options, told, show, own)
    if options.batch_size:
        return with_batch_size(script, options, told, show, own)
    return predict(script, options, told, show)


def with_batch_size(
    script: Path, options: Options, told=None, show: bool = False, own: dict | None = None
) -> dict:
    """A prediction with `options.batch_size` in place of the script's own.

    `own`: as above. If the number in the script that is its batch size is known, it is replaced. If
    not, only the loader gets another size, and a note says so. Another note says if the peak does
    not change.
    Raises NoPrediction if nothing can be said about the script.
    """
    own = _with_loader(own) if own else _own(script, options, told)
    size, unchanged = own.get("own_batch_size", own["batch_size"]), "number" not in own
    if unchanged:
        options = _with_number(script, options, size)
    else:
        options = replace(options, number=own["number"])
    row = _note(predict(script, _sized(options), told, show), options, size)
    changed = unchanged and options.number and size != options.batch_size
    if changed and not options.techniques and _alike(own, row):
        row["notes"].append(f"its own batches of {size} allocate as much: {UNMOVED}")
    return row | {"number": options.number, "own_batch_size": size}


def accumulated(
    script: Path, options: Options, told=None, show: bool = False, own: dict | None = None
) -> dict:
    """A prediction with batches that are split into MICRO_BATCHES, whose gradients add up.

    The batch is `options.batch_size`, or the script's own; `own` as above. Raises NoPrediction if
    nothing can be said about the script, or if its batches are too small.
    """
    own = _with_loader(own) if own else _own(script, replace(options, techniques=()), told)
    whole = options.batch_size or own["batch_size"]
    size = whole // MICRO_BATCHES
    if not size:
        raise NoPrediction(own["script"], f"batches of {whole} have no quarter")
    row = with_batch_size(script, replace(options, batch_size=size), told, show, own)
    row["notes"].append(f"batches of {whole} are accumulated from micro-batches of {size}")
    return row


def largest_batch(
    script: Path, options: Options, told=None, exact: bool = False
) -> Iterator[tuple[int, dict]]:
    """Batch sizes and their predictions, one after the other, in search of the largest that fits.

    What is judged is what PyTorch reserves within the GPU's memory, with all that the verdict
    allows for. The first tries are powers of two, then multiples of 8 (below 8, any), at most TRIES
    in all; with `exact`, every size may follow, at most MORE. The search also ends at the size of
    the data set, and if FOLD times as large batches need no more memory.

    Raises NoPrediction if nothing can be said about one of them.
    """
    row = _own(script, options, told)
    own = row["batch_size"]
    options = _with_number(script, options, own)
    search = Search(options, row["samples"] or math.inf)

    def ask(size: int) -> tuple[int, dict]:
        other = replace(options, batch_size=size)
        search.tried[size] = _note(predict(script, _sized(other), told), other, own)
        return size, search.tried[size]

    if options.batch_size in (None, own):
        search.tried[own] = row
        yield own, row
    else:
        yield ask(options.batch_size)
    for size in search.sizes(exact):
        yield ask(size)


class Search:
    """What was tried in a search, and what to try next."""

    def __init__(self, options: Options, most: float) -> None:
        """`most`: samples of the data set."""
        self.options, self.most = options, most
        self.tried: dict[int, dict] = {}  # predictions by batch size

    def sizes(self, exact: bool) -> Iterator[int]:
        """The sizes to try, each of which is in `tried` before the next is asked for."""
        for many, step in ((TRIES, 8), (TRIES + MORE, 1)) if exact else ((TRIES, 8),):
            while len(self.tried) < many and (size := self.next(step)):
                yield size

    def next(self, step: int) -> int | None:
        """The next batch size, a power of two or a multiple of `step`; None at the end."""
        low = max((size for size, row in self.tried.items() if row["fits"]), default=0)
        high = min((size for size, row in self.tried.items() if not row["fits"]), default=None)
        if high is None:
            if low >= self.most:
                self._note(f"that is the whole data set, {self.most} samples, in a batch")
                return None
            if self._unmoved(low):
                return None
            return self._above(low)
        if low == 0:
            return self._below(high)
        step = step if low >= step else 1
        sizes = range(low // step * step + step, high, step)
        if not sizes:
            return None
        guess = self._guess(low, high)  # in between, halve: the line is not quite straight
        middle = (low + high) // 2
        wanted = guess if len(self.tried) % 2 else middle
        return sizes[min(max((wanted - sizes[0]) // step, 0), len(sizes) - 1)]

    def _above(self, low: int) -> int:
        """A power of two above all that fit: the last that seems to fit, else the next one."""
        following = 1 << low.bit_length()
        smaller = [size for size in self.tried if size < low]
        guess = self._guess(max(smaller), low) if smaller else following
        return min(max(following, min(_power(guess), low * FOLD)), self.most)

    def _below(self, high: int) -> int | None:
        """A power of two below all that do not fit; None if 1 does not."""
        if high == 1:
            return None
        larger = [size for size in self.tried if size > high]
        guess = self._guess(high, min(larger)) if larger else high // 2
        return min(_power(guess), _power(high - 1))

    def _guess(self, one: int, other: int) -> int:
        """The size at which memory reaches its limit, if it grows with the batch as between two."""
        a, b = self.tried[one], self.tried[other]
        _, limit = evidence.limits(self.options.gpu, a["like"], a["groups"])
        slope = (b["reserved_gb"] - a["reserved_gb"]) / (other - one)
        if slope <= 0:
            return other * FOLD
        return max(int(one + (limit / 1e9 - a["reserved_gb"]) / slope), 1)

    def _unmoved(self, low: int) -> bool:
        """Whether much smaller batches than the largest so far need as much memory."""
        row, small = self.tried[low], min(self.tried)
        alike = low >= FOLD * small and row["reserved_gb"] == self.tried[small]["reserved_gb"]
        if alike and _alike(self.tried[small], row):
            self._note(f"batches of {small} need as much: {UNMOVED}. Larger ones were not tried")
            return True
        return False

    def _note(self, text: str) -> None:
        self.tried[max(self.tried)]["notes"].append(text)


def _power(size: int) -> int:
    """The largest power of two that is not above a size of at least 1."""
    return 1 << size.bit_length() - 1


def _own(script: Path, options: Options, told) -> dict:
    """The prediction for the unchanged script. Raises NoPrediction if it has no loader."""
    return _with_loader(predict(script, replace(options, batch_size=None), told))


def _with_loader(row: dict) -> dict:
    """The row; raises NoPrediction if its script has no loader."""
    if row["batch_size"] is None:
        raise NoPrediction(row["script"], "it has no DataLoader whose batch size could be changed")
    return row


def _with_number(script: Path, options: Options, own: int) -> Options:
    """The options with the place of the number in the script that is its batch size, if found.

    Numbers are changed one by one, to see with which one the loader's batch size changes. So it
    does not matter whether it is an option's default, a constant, or an argument.
    """
    if options.batch_option:
        return options
    for place in own_number.places(script.read_bytes(), own)[:NUMBERS]:
        for trial in (2 * own, own + 1):  # by which the script may have to divide it
            other = replace(options, number=place, batch_size=trial)
            if first_batch_size(script, other) == trial:
                return replace(options, number=place)
    return options


def _sized(options: Options) -> Options:
    """The options with the batch size among the script's arguments, if it has an option for it."""
    if not options.batch_option:
        return options
    more = (options.batch_option, str(options.batch_size))  # after others, so that it counts
    return replace(options, batch_size=None, arguments=(*options.arguments, *more))


def _alike(row: dict, other: dict) -> bool:
    """Whether two predictions differ by less than a thousandth, that is, by their inputs alone."""
    return abs(row["allocated_gb"] - other["allocated_gb"]) < 0.001 * row["allocated_gb"]


def _note(row: dict, options: Options, own: int) -> dict:
    """The row with a note on how its batch size was set.

    Raises NoPrediction if it could not be set.
    """
    if options.batch_option:
        if row["batch_size"] == own != options.batch_size:
            raise NoPrediction(
                row["script"],
                f"{options.batch_option} {options.batch_size} leaves its batches at {own}: is that "
                "the option for them?",
            )
        if row["batch_size"] != options.batch_size:
            row["notes"].append(
                f"{options.batch_option} {options.batch_size} makes batches of {row['batch_size']}"
            )
    elif options.number:
        row["batch_size_line"] = options.number[0]
    else:
        row["notes"].append(
            "its DataLoader was given other batches; which number of the script they come from is "
            "not known, so that all that it computes from its own is as before"
        )
    return row
