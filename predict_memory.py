"""Predict a script's peak GPU memory on a machine without a GPU, without data and without weights.

    python predict_memory.py train.py --gpu 24 -- --width 4096      with options of the script's own
    python predict_memory.py 03_bfloat16.py              what it needs, and what for
    python predict_memory.py 03_bfloat16.py --gpu 8      does it fit a GPU of 8 GB? (or: T4, H100 …)
    python predict_memory.py 03_bfloat16.py --fits 12    the largest batch that fits 12 GB
    python predict_memory.py                             the whole ladder beside published figures

The script runs unmodified, on tensors that have a shape and no numbers (see
docs/how-prediction-works.md). GB are 1e9 bytes. Exit status: 0; 1 if it does not or may not fit; 2
if nothing can be said.
"""

import signal

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing to tell or to tidy up yet

import argparse
import importlib.util
import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ladder import rows
from ladder.margin import margin
from ladder.processes import (
    Ended,
    UnknownScript,
    display_name,
    end_as_after_ctrl_c,
    end_forkserver,
    find_scripts,
    start_forkserver,
)
from ladder.rungs import ROOT, LadderError, family, needs_bfloat16, read_ladder
from prediction import advice, answers, batches, files, gpus, table
from prediction.options import Options, starts_group
from prediction.process import NoPrediction, predict
from prediction.progress import Running

NEEDED = ("torch", "torchvision", "lightning", "torchmetrics", "tqdm", "watermark", "matplotlib")
NEEDED += ("rich",)
KEYS = (
    "script", "reserved_gb", "allocated_gb", "host_gb", "breakdown_gb", "peak_phase", "peak_module",
    "seconds", "host_training_gb", "created_gb", "reserved_least_gb", "fits", "may_fit",
    "reserved_within_gb", "cost",
)  # fmt: skip


running = Running()


# ------------------------------------------------------------------------------------- one script


def one(script: Path, options: Options, show: bool = False) -> dict:
    """Predict one script, with the batch size asked for; NoPrediction."""
    ask = batches.with_batch_size if options.batch_size else predict
    try:
        return ask(script, options, running.told(script), show)
    finally:
        running.done(script)


def largest(
    script: Path, options: Options, say: Callable[[str], None]
) -> tuple[tuple[int, dict] | None, int]:
    """The largest batch that fits with its prediction, and the largest that may; NoPrediction.

    None, and 0, where there is none.
    """
    tried = {}
    for size, row in batches.largest_batch(script, options, running.told(script)):
        running.done(script)
        tried[size] = row
        say(f"  batches of {size}: {row['reserved_gb']:.2f} GB reserved, {answers.verdict(row)}")
    best = max((size for size, row in tried.items() if row["fits"]), default=None)
    may = max((size for size, row in tried.items() if row["may_fit"]), default=0)
    return (None if best is None else (best, tried[best])), may


def first_later(script: Path, options: Options) -> bool:
    """Name the first script after this one, of its model, that fits; whether there is one.

    Variants do not count, and neither does what the GPU cannot run.
    """
    rungs = [rung.script for rung in read_ladder()]
    name = display_name(script)
    variants = {rung.script for rung in read_ladder() if rung.variant}
    later = [other for other in rungs[rungs.index(name) + 1 :] if other not in variants]
    later = [other for other in later if family(other) == family(name)]
    if not options.gpu.bfloat16:
        passed = [other for other in later if needs_bfloat16(other)]
        later = [other for other in later if other not in passed]
        if passed:
            print(
                f"  passed over: {', '.join(Path(other).stem for other in passed)} "
                f"(bfloat16, in which a {options.gpu.name} does not compute)"
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
    """Say what does run on a GPU that is too small for a script, or what would help it."""
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
        size = f"{best[0]}, {best[1]['reserved_gb']:.2f} GB" if best else "not even a batch of 1"
        print(f"  the largest batch that fits: {size}")
    if not options.gpu.bfloat16:
        name = display_name(script)
        without = [
            Path(rung.script).stem
            for rung in read_ladder()
            if family(rung.script) == family(name) and not needs_bfloat16(rung.script)
        ]
        print(f"  scripts of the ladder that need no bfloat16: {', '.join(without)}")


def predict_one(script: Path, asked: argparse.Namespace, options: Options) -> int:
    """Do what was asked about one script; the exit status. NoPrediction."""
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
            print(
                f"  batches of up to {may} may fit: see docs/how-prediction-works.md on the error"
            )
        print(f"  predicted in {row['seconds']:.1f} s")
    if row.get("fits", True):
        return 0
    if not asked.json:
        what_fits(script, options, row)
    return 1


# ---------------------------------------------------------------------------------------- command


class Parser(argparse.ArgumentParser):
    """One that also answers in JSON where that was asked for."""

    json, script = False, None

    def error(self, message: str) -> None:
        if self.json:
            print(json.dumps({"script": self.script, "error": message}))
        super().error(message)


def found_gpus(scripts: list[Path]) -> int:
    """How many GPUs scripts find that are not told: the published figures' four, or one.

    One is for scripts that are none of the ladder's and not started as several processes: with
    more, some libraries would use them all from one process.
    """
    ladder = {rung.script for rung in read_ladder()}
    own = [script for script in scripts if display_name(script) not in ladder]
    several = any(starts_group(script.read_bytes()) for script in own)
    return 1 if own and not several else 4


def example(text: str) -> tuple[int, int, int]:
    """The shape of an image; ArgumentTypeError."""
    from prediction import example_data  # takes a second

    try:
        return example_data.read(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def config(text: str) -> tuple[str, str]:
    """A model's name and its file; ArgumentTypeError."""
    name, _, file = text.partition("=")
    try:
        if "model_type" not in json.loads(Path(file).read_text()):
            raise ValueError("it names no model_type")
    except (OSError, ValueError, TypeError) as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no NAME=path/to/config.json: {error}"
        ) from None
    return name, str(Path(file).absolute())


def positive(text: str) -> float:
    """A number of seconds."""
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise ValueError
    return seconds


def read_options(arguments: list[str]) -> tuple[argparse.Namespace, Options]:
    """The command line; ends the program with status 2 if it makes no sense."""
    parser = Parser(
        description="Predict a script's peak GPU memory, without a GPU.",
        epilog="After --: the script's own options. No script: all of the ladder. Exit status: 1 "
        "if it does not or may not fit, 2 if nothing can be said.",
    )
    own = arguments.index("--") if "--" in arguments else len(arguments)
    arguments, theirs = arguments[:own], tuple(arguments[own + 1 :])
    parser.json = "--json" in arguments
    parser.script = next((word for word in arguments if not word.startswith("-")), None)
    parser.add_argument("script", nargs="*", help="a script; none means the whole ladder")
    parser.add_argument("--gpu", metavar="GPU", help="GB, or one of " + ", ".join(gpus.KNOWN))
    parser.add_argument("--fits", metavar="GPU", help="find the largest batch size that fits")
    parser.add_argument("--batch-size", type=int, metavar="N", help="in place of the script's")
    parser.add_argument(
        "--example", metavar="images:3x224x224", type=example,
        help="what stands in for data that is not here; or: tokens:512",
    )  # fmt: skip
    parser.add_argument("--classes", type=int, default=1000, metavar="N", help="its classes (1000)")
    parser.add_argument(
        "--batches", type=int, default=16, metavar="N",
        help="where a loader's batches differ in size, the largest of the first N counts (16)",
    )  # fmt: skip
    parser.add_argument(
        "--config", action="append", default=[], metavar="NAME=FILE", type=config,
        help="the config.json of a model that the script names",
    )  # fmt: skip
    parser.add_argument(
        "--gpus", type=int, metavar="N",
        help="GPUs it finds (4; 1 for a script of your own that starts no group of processes)",
    )  # fmt: skip
    parser.add_argument(
        "--as-of", type=int, choices=[2023], metavar="2023",
        help="by the rules of the published figures' PyTorch",
    )  # fmt: skip
    parser.add_argument("--timeline", type=Path, metavar="FILE", help="draw one step's memory")
    parser.add_argument(
        "--snapshot", type=Path, metavar="FILE.pickle",
        help="keep the history of the memory for PyTorch's viewer, pytorch.org/memory_viz",
    )  # fmt: skip
    parser.add_argument(
        "--time-limit", type=positive, metavar="SECONDS", help="for each script (none)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--show", action="store_true", help="show the script's own output")
    parser.add_argument("--results", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    then = f"_{asked.as_of}" if asked.as_of else ""
    asked.results = asked.results or rows.LOCAL / f"predicted{then}.json"
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        parser.error(
            f"not installed here: {', '.join(missing)}. Install with  "
            "pip install -r requirements-dev.txt"
        )
    gpu, fits = asked.gpu is not None, asked.fits is not None
    if gpu and fits:
        parser.error("--gpu asks whether a script fits, --fits for which batch it does: choose one")
    if len(asked.script) != 1 and (gpu or fits or asked.timeline or asked.snapshot or asked.json):
        parser.error("name the one script that this is asked for")
    if theirs and len(asked.script) != 1:
        parser.error("what stands after -- is one script's: name that one")
    for name in ("batch_size", "batches", "gpus", "classes"):
        if getattr(asked, name) is not None and getattr(asked, name) < 1:
            parser.error(f"--{name.replace('_', '-')} has to be at least 1")
    try:
        model = gpus.find(asked.gpu if gpu else asked.fits) if gpu or fits else gpus.DEFAULT
        asked.scripts = find_scripts(asked.script)
        if asked.as_of and not asked.script:
            asked.scripts = table.published(asked.scripts)
        files.check(asked.timeline, asked.snapshot)
        if len(asked.scripts) > 1:
            rows.check(asked.results)
    except (ValueError, UnknownScript, LadderError) as error:
        parser.error(str(error))
    asked.gpus = asked.gpus or found_gpus(asked.scripts)
    whole = not (asked.script or asked.as_of)  # what the pages are made from
    options = Options(
        model, asked.gpus, theirs, asked.example, asked.classes, tuple(asked.config),
        asked.batches, asked.batch_size,
        capacity=gpu or fits, margin=margin() if gpu or fits else 0.0, room=whole,
        timeline=asked.timeline is not None or whole, snapshot=asked.snapshot is not None, as_of=asked.as_of, time_limit=asked.time_limit,
    )  # fmt: skip
    return asked, options


def main() -> int:
    asked, options = read_options(sys.argv[1:])
    name = display_name(asked.scripts[0])
    try:
        end_as_after_ctrl_c()
        start_forkserver("prediction.run")
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


if __name__ == "__main__":
    try:
        status = main()
        sys.stdout.flush()
    except BrokenPipeError:  # what it prints is not read any more, as by `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        status = 1
    sys.exit(status)
