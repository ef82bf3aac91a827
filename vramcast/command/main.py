"""Predict a script's peak GPU memory on a machine without a GPU, without data and without weights.

    python predict_memory.py train.py --gpu 24 -- --width 4096      with options of the script's own
    python predict_memory.py 03_bfloat16.py              what it needs, and what for
    python predict_memory.py 03_bfloat16.py --gpu 8      does it fit a GPU of 8 GB? (or: T4, H100 …)
    python predict_memory.py 03_bfloat16.py --fits 12    the largest batch that fits 12 GB
    python predict_memory.py --gpu 8                     which scripts of the ladder fit?
    python predict_memory.py                             predict the whole ladder anew

The script runs unmodified, on tensors that have a shape and no numbers (see
docs/how-prediction-works.md). GB are 1e9 bytes. Exit status: 0; 1 if it does not or may not fit; 2
if nothing can be said.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ladder import fits as which
from ladder import fitting
from ladder import predict as table
from ladder.rungs import ROOT, LadderError, family, needs_bfloat16, read_ladder
from ladder.scripts import display_name
from vramcast.command import advice, batches, files
from vramcast.command import arguments as command_line
from vramcast.command import report as answers
from vramcast.command.progress import Running
from vramcast.options import Options
from vramcast.processes.supervisor import (
    Ended,
    end_as_after_ctrl_c,
    end_forkserver,
    start_forkserver,
)
from vramcast.run.process import NoPrediction, predict

KEYS = (
    "script", "reserved_gb", "allocated_gb", "host_gb", "breakdown_gb", "peak_phase", "peak_module",
    "seconds", "host_training_gb", "created_gb", "reserved_least_gb", "fits", "may_fit",
    "reserved_within_gb", "cost",
)  # fmt: skip


running = Running()


# ------------------------------------------------------------------------------------- one script


def one(script: Path, options: Options, show: bool = False) -> dict:
    """Predict one script, with the batch size that was asked for; NoPrediction."""
    ask = batches.with_batch_size if options.batch_size else predict
    try:
        return ask(script, options, running.told(script), show)
    finally:
        running.done(script)


def largest(
    script: Path, options: Options, say: Callable[[str], None]
) -> tuple[tuple[int, dict] | None, int]:
    """Prediction of the largest batch that surely fits, and the largest size that may fit.

    None and 0 if there is no such batch; NoPrediction.
    """
    tried = {}
    for size, row in batches.largest_batch(script, options, running.told(script)):
        running.done(script)
        tried[size] = row
        say(f"  batches of {size}: {answers.need(row)}, {answers.verdict(row)}")
    best = max((size for size, row in tried.items() if row["fits"]), default=None)
    may = max((size for size, row in tried.items() if row["may_fit"]), default=0)
    return (None if best is None else (best, tried[best])), may


def first_later(script: Path, options: Options) -> bool:
    """Print the first later script of the same model that fits; whether there is one.

    Variants come last (see `ladder.fitting`); what the GPU cannot compute is passed over.
    """
    ladder, name = read_ladder(), display_name(script)
    place = [rung.script for rung in ladder].index(name)
    later = [rung.script for rung in fitting.suggested(ladder[place + 1 :], family(name))]
    if not options.gpu.bfloat16:
        passed = [other for other in later if needs_bfloat16(other)]
        later = [other for other in later if other not in passed]
        if passed:
            print(
                f"  passed over: {len(passed)} scripts in bfloat16, in which a {options.gpu.name} "
                "does not compute"
            )
    for other in later:
        try:
            row = one(ROOT / other, options)
        except NoPrediction as failure:
            print(f"  passed over: {failure}")
            continue
        if row["fits"]:
            print(f"  the first later script that fits: {other}, {row['reserved_gb']:.2f} GB")
            return True
    print("  no later script of the ladder fits")
    return False


def what_fits(script: Path, options: Options, row: dict) -> None:
    """For a GPU that is too small: print which script fits, or what would help this one."""
    if display_name(script) in [rung.script for rung in read_ladder()]:
        print("Looking for a later script that fits …", flush=True)
        if first_later(script, replace(options, batch_size=None)):
            return
    else:
        print("".join(f"  {line}\n" for line in advice.lines(row)), end="")
    print("Looking for the largest batch that fits …", flush=True)
    try:
        best, _ = largest(script, options, lambda text: None)
    except NoPrediction as failure:
        print(f"  {failure.reason}")
    else:
        size = f"{best[0]}, {answers.need(best[1])}" if best else "not even a batch of 1"
        print(f"  the largest batch that fits: {size}")


def predict_one(script: Path, asked: argparse.Namespace, options: Options) -> int:
    """Predict one script as asked, and print the answer; the exit status. NoPrediction."""
    if asked.fits is not None:
        out = sys.stderr if asked.json else sys.stdout
        best, may = largest(script, options, lambda text: print(text, file=out, flush=True))
        if best is None:
            text = f"not even a batch of 1 fits {options.gpu.name}"
            text += f" for sure; batches of up to {may} may" if may else ""
            if asked.json:
                print(json.dumps({"script": display_name(script), "error": text}))
            print(f"{display_name(script)}: {text}", file=sys.stderr)
            return 1
        options, row = replace(options, batch_size=best[0]), best[1] | {"batch_size": best[0]}
        row |= {"batch_size_may_fit": may}
    else:
        row = one(script, options, asked.show)
    files.write(row, asked.timeline, asked.snapshot)
    if asked.json:
        keys = (*KEYS, "batch_size", "batch_size_may_fit") if asked.fits else KEYS
        print(json.dumps({key: row[key] for key in (*keys, "notes") if key in row}))
    else:
        answers.show(row, options)
        if asked.fits and may > best[0]:
            print(f"  batches of up to {may} may fit: see docs/how-far-off.md on the error")
        print(f"  predicted in {row['seconds']:.1f} s")
    if row.get("fits", True):
        return 0
    if not asked.json:
        what_fits(script, options, row)
    return 1


# ---------------------------------------------------------------------------------------- command


def main() -> int:
    asked, options = command_line.read(sys.argv[1:])
    if asked.which:
        return which.show(options)
    name = display_name(asked.scripts[0])
    try:
        end_as_after_ctrl_c()
        start_forkserver("vramcast.run.script")
        if len(asked.scripts) == 1:
            return predict_one(asked.scripts[0], asked, options)
        return table.predict_all(asked.scripts, options, asked.results, one)
    except BrokenPipeError:
        raise
    except (NoPrediction, Ended, LadderError, OSError) as failure:
        running.done(asked.scripts[0])
        reason = getattr(failure, "reason", str(failure))
        if asked.json:
            print(json.dumps({"script": name, "error": reason}))
        whose = f"{name}: " if len(asked.scripts) == 1 else ""
        print(f"No prediction. {whose}{reason}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        known = "".join(f"\n  {report}" for report in running.reports.values())
        print(f"\nStopped.{known}", file=sys.stderr)
        if asked.json:
            print(json.dumps({"script": name, "error": f"stopped{known}"}))
        return 130
    finally:
        end_forkserver()


def run() -> None:
    """Be the command: end the process with the exit status."""
    try:
        status = main()
        sys.stdout.flush()
    except BrokenPipeError:  # what it prints is not read any more, as by `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        status = 1
    sys.exit(status)
