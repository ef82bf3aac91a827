"""The command: predict a script's peak GPU memory, without a GPU, without data and without weights.

    vramcast train.py                          what it needs, and what for
    vramcast train.py --gpu 8                  does it fit a GPU of 8 GB? (or: T4, H100, all)
    vramcast train.py --fits 12                the largest batch that fits 12 GB
    vramcast train.py --what-if                what would make it need less?
    vramcast train.py --gpu 24 -- --width 4096      with options of the script's own

The script runs unmodified, on tensors that have a shape and no numbers. GB are 1e9 bytes. Exit
status: 0; 1 if it does not or may not fit; 2 if nothing can be said.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from vramcast.command import arguments, as_json, batches, files, report, side_by_side, what_if
from vramcast.command.progress import Running
from vramcast.options import Options
from vramcast.prediction import Prediction, need, verdict, why
from vramcast.processes.entry import end_as_after_ctrl_c
from vramcast.processes.messages import plain
from vramcast.processes.supervisor import (
    Ended,
    end_forkserver,
    start_forkserver,
)
from vramcast.run.process import NoPrediction, name_of, preloaded
from vramcast.techniques.catalog import MICRO_BATCHES

running = Running()


def one(script: Path, options: Options, show: bool = False) -> dict:
    """Predict one script, with the batch size that was asked for.

    Raises NoPrediction if nothing can be said about it.
    """
    try:
        return batches.ask(script, options, running.told(script), show)
    finally:
        running.done(script)


def largest(
    script: Path, options: Options, say: Callable[[str], None], exact: bool = False
) -> tuple[tuple[int, dict] | None, int]:
    """Prediction of the largest batch that surely fits, and the largest tried that may fit.

    None and 0 if there is no such batch. Raises NoPrediction if nothing can be said.
    """
    tried = {}
    for size, row in batches.largest_batch(script, options, running.told(script), exact):
        running.done(script)
        tried[size] = row
        found = Prediction.of(row, options)
        say(f"  batches of {size}: {need(found)}, {verdict(found)}")
    best = max((size for size, row in tried.items() if row["fits"]), default=None)
    may = max((size for size, row in tried.items() if row["may_fit"]), default=0)
    return (None if best is None else (best, tried[best])), may


def tell_largest(script: Path, options: Options, say: Callable[[str], None]) -> int | None:
    """Say which is the largest batch that surely fits, and return it; None if there is none.

    With accumulation, `options.batch_size` is that of a micro-batch.
    """
    say("Looking for the largest batch that fits …")
    times = MICRO_BATCHES if "accumulate" in options.techniques else 1
    try:
        best, _ = largest(script, options, say)
    except NoPrediction as failure:
        say(f"  {failure.reason}")
        return None
    if best is None:
        say("  the largest batch that fits: not even a batch of 1")
        return None
    size = f"{times} × {best[0]}" if times > 1 else f"{best[0]}"
    say(f"  the largest batch that fits: {size}, {need(Prediction.of(best[1], options))}")
    return times * best[0]


def what_helps(script: Path, options: Options, row: dict, say: Callable[[str], None]) -> dict:
    """Say what each technique saves, and which smallest set of them fits, if it does not as it is.

    Returns what was found, as JSON has it.
    """
    try:
        names, others = what_if.candidates(row, options)
        say(f"What if? Predicting it with each of {len(names)} techniques …")
        search = what_if.WhatIf(script, options, row, running.counted(script))
        singles = search.each(names)
        running.done(script)
        say(what_if.table(singles, others, row))
        found: dict = {"what_if": [one.report() for one in singles], "not_tried": others}
        if row.get("fits", True):
            return found
        say(f"Looking for the smallest set that fits {options.gpu.name} …")
        best = what_if.Tried((), row)
        for best in search.smallest(singles):
            running.done(script)
            say(f"  {what_if.told(best, options)}")
    finally:
        running.done(script)
    if not best.fits:
        say("  no set of them was found that fits")
        return found | {"fits_with": None}
    found["fits_with"] = best.report()
    if row["batch_size"]:
        found["fits_with"]["largest_batch"] = tell_largest(
            script,
            replace(options, techniques=best.techniques, batch_size=best.row["batch_size"]),
            say,
        )
    return found


def predict_one(script: Path, asked: argparse.Namespace, options: Options) -> int:
    """Predict one script as asked, and print the answer; the exit status.

    Raises NoPrediction if nothing can be said about it.
    """
    out = sys.stderr if asked.json else sys.stdout

    def say(text: str) -> None:
        print(text, file=out, flush=True)

    if asked.fits is not None:
        best, may = largest(script, options, say, asked.exact)
        if best is None:
            text = f"not even a batch of 1 fits {options.gpu.name}"
            text += f" for sure; a batch of {may} may" if may else ""
            if asked.json:
                print(as_json.error(name_of(script), text))
            print(f"{plain(name_of(script))}: {text}", file=sys.stderr)
            return 1
        options, row = replace(options, batch_size=best[0]), best[1] | {"batch_size": best[0]}
        row |= {"batch_size_may_fit": may}
    else:
        row = one(script, options, asked.show)
    if asked.assumed:
        row["notes"].append(asked.assumed)
    files.write(row, asked.timeline, asked.snapshot)
    fits, found = row.get("fits", True), {}
    if not asked.json:
        report.show(Prediction.of(row, options))
        if asked.fits and may > best[0]:
            print(f"  a batch of {may} may fit, if the prediction is exact")
        if asked.why:
            print("".join(f"  {line}\n" for line in why(Prediction.of(row, options))), end="")
        print(f"  predicted in {row['seconds']:.1f} s")
    advise = not (fits or asked.json)
    if advise:
        if row.get("compiled"):
            options = replace(options, eager=True)
            say("As if nothing were compiled, since that takes minutes for each:")
            row = one(script, options)
        tell_largest(script, options, say)
    if asked.what_if or advise:
        found = what_helps(script, options, row, say)
    if asked.json:
        print(as_json.prediction(row, options, found))
    return 0 if fits else 1


def tables(script: Path, asked: argparse.Namespace, options: Options) -> int:
    """Print several predictions side by side; the exit status.

    Raises NoPrediction if there is none at all.
    """
    counted = running.counted(script)
    if asked.all:
        rows = side_by_side.on_all_gpus(script, options, counted)
        text, titles = side_by_side.describe_gpus(rows), []
    else:
        if asked.compare:
            options = replace(options, why=True)
            if asked.compare == arguments.SAME:
                titles = [" ".join(words) or "as it is" for words in asked.own]
                each = [(script, replace(options, arguments=words)) for words in asked.own]
                about = [{"script": name_of(script), "arguments": words} for words in asked.own]
            else:
                titles = [name_of(script), name_of(asked.compare)]
                each = [(script, options), (asked.compare, options)]
                about = [{"script": name} for name in titles]
            rows = side_by_side.answers(each, counted)
            rows = [one | row for one, row in zip(about, rows)]
        else:
            titles = [f"{number} GPU{'s' * (number > 1)}" for number in asked.gpus]
            rows = side_by_side.on_several(script, options, asked.gpus, counted)
        known = [(title, row) for title, row in zip(titles, rows) if "error" not in row]
        text = side_by_side.table(*map(list, zip(*known))) if known else ""
        if asked.compare and len(known) > 1:
            text += side_by_side.tensors([row for _, row in known])
    running.done(script)
    errors = [row["error"] for row in rows if "error" in row]
    if len(errors) == len(rows):
        raise NoPrediction(name_of(script), errors[0])
    if asked.json:
        print(as_json.rows(name_of(script), rows, options))
    else:
        print(plain(f"{name_of(script)}, predicted:\n{text}"))
        for title, row in zip(titles, rows):
            if "error" in row:
                print(f"  no prediction for {title}: {row['error']}")
    if asked.all:
        return 0 if any(row.get("fits") for row in rows) else 1
    return 2 if errors else 0 if all(row.get("fits", True) for row in rows) else 1


def main() -> int:
    """Answer the command line; the exit status."""
    asked, options = arguments.read(sys.argv[1:])
    script, name = asked.script, name_of(asked.script)
    try:
        end_as_after_ctrl_c()
        start_forkserver("vramcast.run.script", *preloaded(script))
        if asked.all or asked.compare or len(asked.gpus) > 1:
            return tables(script, asked, options)
        return predict_one(script, asked, options)
    except BrokenPipeError:
        raise
    except (NoPrediction, Ended, OSError) as failure:
        sys.stdout.flush()  # raises, once more, if it was that which failed
        running.done(script)
        reason = getattr(failure, "reason", str(failure))
        reason += f"\n  ({asked.assumed})" * bool(asked.assumed)
        if asked.json:
            print(as_json.error(name, reason))
        print(f"No prediction. {plain(name)}: {reason}", file=sys.stderr)
        return 2
    except Exception as failure:
        if asked.json:
            reason = f"a fault of vramcast itself: {type(failure).__name__}: {failure}"
            print(as_json.error(name, reason))
        raise
    except KeyboardInterrupt:
        known = "".join(f"\n  {news}" for news in running.reports.values())
        print(f"\nStopped.{known}", file=sys.stderr)
        if asked.json:
            print(as_json.error(name, f"stopped{known}"))
        return 130
    finally:
        end_forkserver()
