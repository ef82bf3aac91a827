"""Predictions with another batch size than the script's own, and the largest that fits a GPU."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from vramcast.options import Options
from vramcast.run import source as own_number
from vramcast.run.process import NoPrediction, first_batch_size, predict

TRIES = 24  # predictions at most in a search
UNMOVED = "what the peak consists of does not depend on the loader's batches"
DOUBLED = 4  # times in a row without a change, after which batches are not doubled any more
NUMBERS = 8  # numbers of a source that are tried at most


def with_batch_size(script: Path, options: Options, told=None, show: bool = False) -> dict:
    """A prediction with `options.batch_size` in place of the script's own.

    If the number in the script that is its batch size is known, it is replaced. If not, only the
    loader gets another size, and a note says so. Another note says if the peak does not change.
    Raises NoPrediction if nothing can be said about the script.
    """
    own = _own(script, options, told)
    options = _with_number(script, options, own["batch_size"])
    row = predict(script, _sized(options), told, show)
    row = _note(row, options, own["batch_size"])
    if options.number and own["batch_size"] != options.batch_size and _alike(own, row):
        row["notes"].append(f"its own batches of {own['batch_size']} allocate as much: {UNMOVED}")
    return row


def largest_batch(script: Path, options: Options, told=None) -> Iterator[tuple[int, dict]]:
    """Batch sizes and their predictions, one after the other, until the largest that fits is known.

    The search is first for the largest that may fit, then for the largest that surely fits. Memory
    grows nearly linearly with the batch, which tells the next size to try. The search also ends at
    the size of the data set, after TRIES predictions, and if batches that were DOUBLED several
    times need no more memory.

    Raises NoPrediction if nothing can be said about one of them.
    """
    row = _own(script, options, told)
    own = row["batch_size"]
    options = _with_number(script, options, own)
    tried: dict[int, dict] = {}

    def ask(size: int) -> tuple[int, dict]:
        other = replace(options, batch_size=size)
        tried[size] = _note(predict(script, _sized(other), told), other, own)
        return size, tried[size]

    if options.batch_size in (None, own):
        tried[own] = row
        yield own, row
    else:
        yield ask(options.batch_size)
    most = row["samples"] or float("inf")
    high, unmoved = max(tried), 0
    while tried[high]["may_fit"] and len(tried) < TRIES:
        if high >= most:
            tried[high]["notes"].append(f"that is the whole data set, {most} samples, in a batch")
            break
        low, high = high, min(2 * high, most)
        yield ask(high)
        same = tried[low]["reserved_gb"] == tried[high]["reserved_gb"]
        unmoved = unmoved + 1 if same and _alike(tried[low], tried[high]) else 0
        if high < most and unmoved == DOUBLED:
            tried[high]["notes"].append(
                f"batches of {high >> DOUBLED} need as much: {UNMOVED}. Larger ones were not tried"
            )
            break
    room = (options.gpu.memory - options.gpu.context) / 1e9
    for answer, limit in (("may_fit", room), ("fits", room / (1 + options.margin))):
        while (size := _between(tried, answer, limit)) and len(tried) < TRIES:
            yield ask(size)


def _between(tried: dict[int, dict], answer: str, limit: float) -> int | None:
    """The next size to try, between the largest with this answer and the smallest without."""
    low = max((size for size, row in tried.items() if row[answer]), default=0)
    high = min((size for size, row in tried.items() if not row[answer]), default=low)
    if high - low <= 1:
        return None
    if low and len(tried) % 3:  # in between, halve: the line is not quite straight
        one, other = tried[low]["allocated_gb"], tried[high]["allocated_gb"]
        guess = low + int((high - low) * (limit - one) / max(other - one, 1e-9))
        return min(max(guess, low + 1), high - 1)
    return (low + high) // 2


def _own(script: Path, options: Options, told) -> dict:
    """The prediction for the unchanged script. Raises NoPrediction if it has no loader."""
    row = predict(script, replace(options, batch_size=None), told)
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
