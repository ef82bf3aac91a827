"""The command: predict a script's peak GPU memory, without a GPU, without data and without weights.

    vramcast train.py                          what it needs, and what for
    vramcast train.py --gpu 8                  does it fit a GPU of 8 GB? (or: T4, H100 …)
    vramcast train.py --fits 12                the largest batch that fits 12 GB
    vramcast train.py --gpu 24 -- --width 4096      with options of the script's own

The script runs unmodified, on tensors that have a shape and no numbers. GB are 1e9 bytes. Exit
status: 0; 1 if it does not or may not fit; 2 if nothing can be said.
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from vramcast.command import advice, arguments, batches, files, report
from vramcast.command.progress import Running
from vramcast.options import Options
from vramcast.prediction import Prediction, need, verdict
from vramcast.processes.entry import end_as_after_ctrl_c
from vramcast.processes.messages import plain
from vramcast.processes.supervisor import (
    Ended,
    end_forkserver,
    start_forkserver,
)
from vramcast.run.process import NoPrediction, name_of, predict, preloaded

KEYS = (
    "script", "reserved_gb", "allocated_gb", "host_gb", "breakdown_gb", "peak_phase", "peak_module",
    "seconds", "host_training_gb", "created_gb", "reserved_least_gb", "fits", "may_fit",
    "reserved_within_gb", "cost", "batch_size_line", "like", "groups", "devices", "left_out",
)  # fmt: skip

ASSUMED = (
    f"its text shows that it is for several GPUs: it is one of {arguments.SEVERAL} processes, if "
    "--gpus says nothing else"
)

running = Running()


def one(script: Path, options: Options, show: bool = False) -> dict:
    """Predict one script, with the batch size that was asked for.

    Raises NoPrediction if nothing can be said about it.
    """
    ask = batches.with_batch_size if options.batch_size else predict
    try:
        return ask(script, options, running.told(script), show)
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


def what_helps(script: Path, options: Options, row: dict) -> None:
    """For a GPU that is too small: print what would help, and the largest batch that fits."""
    print("".join(f"  {line}\n" for line in advice.lines(row)), end="")
    print("Looking for the largest batch that fits …", flush=True)
    try:
        best, _ = largest(script, options, lambda text: print(text, flush=True))
    except NoPrediction as failure:
        print(f"  {failure.reason}")
    else:
        size = "not even a batch of 1"
        if best:
            size = f"{best[0]}, {need(Prediction.of(best[1], options))}"
        print(f"  the largest batch that fits: {size}")


def predict_one(script: Path, asked: argparse.Namespace, options: Options) -> int:
    """Predict one script as asked, and print the answer; the exit status.

    Raises NoPrediction if nothing can be said about it.
    """
    if asked.fits is not None:
        out = sys.stderr if asked.json else sys.stdout
        best, may = largest(
            script, options, lambda text: print(text, file=out, flush=True), asked.exact
        )
        if best is None:
            text = f"not even a batch of 1 fits {options.gpu.name}"
            text += f" for sure; a batch of {may} may" if may else ""
            if asked.json:
                print(json.dumps({"script": name_of(script), "error": text}))
            print(f"{plain(name_of(script))}: {text}", file=sys.stderr)
            return 1
        options, row = replace(options, batch_size=best[0]), best[1] | {"batch_size": best[0]}
        row |= {"batch_size_may_fit": may}
    else:
        row = one(script, options, asked.show)
    if asked.assumed:
        row["notes"].append(ASSUMED)
    files.write(row, asked.timeline, asked.snapshot)
    if asked.json:
        keys = (*KEYS, "batch_size", "batch_size_may_fit") if asked.fits else KEYS
        print(json.dumps({key: row[key] for key in (*keys, "notes") if key in row}))
    else:
        report.show(Prediction.of(row, options))
        if asked.fits and may > best[0]:
            print(f"  a batch of {may} may fit, if the prediction is exact")
        print(f"  predicted in {row['seconds']:.1f} s")
    if row.get("fits", True):
        return 0
    if not asked.json:
        what_helps(script, options, row)
    return 1


def main() -> int:
    """Answer the command line; the exit status."""
    asked, options = arguments.read(sys.argv[1:])
    script, name = asked.script, name_of(asked.script)
    try:
        end_as_after_ctrl_c()
        start_forkserver("vramcast.run.script", *preloaded(script))
        return predict_one(script, asked, options)
    except BrokenPipeError:
        raise
    except (NoPrediction, Ended, OSError) as failure:
        sys.stdout.flush()  # raises, once more, if it was that which failed
        running.done(script)
        reason = getattr(failure, "reason", str(failure))
        reason += f"\n  ({ASSUMED})" * asked.assumed
        if asked.json:
            print(json.dumps({"script": name, "error": reason}))
        print(f"No prediction. {plain(name)}: {reason}", file=sys.stderr)
        return 2
    except Exception as failure:
        if asked.json:
            reason = f"a fault of vramcast itself: {type(failure).__name__}: {failure}"
            print(json.dumps({"script": name, "error": reason}))
        raise
    except KeyboardInterrupt:
        known = "".join(f"\n  {news}" for news in running.reports.values())
        print(f"\nStopped.{known}", file=sys.stderr)
        if asked.json:
            print(json.dumps({"script": name, "error": f"stopped{known}"}))
        return 130
    finally:
        end_forkserver()
