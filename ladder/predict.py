"""Predict the GPU memory of the ladder's scripts: python -m ladder.predict [SCRIPT …]

    python -m ladder.predict                     all of them, as the tables and pages need it
    python -m ladder.predict 03 04               these
    python -m ladder.predict --resume            without those whose rows would be the same again
    python -m ladder.predict --as-of 2023        by the rules of the PyTorch that the published
                                                 figures were measured with

Rows are kept in results/local/. Exit status: 0; 2 if a script could not be predicted. For a script
of your own, and for other questions about one:  python -m vramcast --help
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from ladder import fingerprints, rows, steps
from ladder.pages.comparisons import where
from ladder.rows import is_range
from ladder.rungs import ROOT, LadderError
from ladder.scripts import UnknownScript, display_name, find_scripts
from vramcast.command.progress import Running
from vramcast.options import Options
from vramcast.processes.entry import Parser, as_command, end_as_after_ctrl_c
from vramcast.processes.messages import plain
from vramcast.processes.pool import Pool, available_memory, cores
from vramcast.processes.supervisor import (
    Ended,
    end_forkserver,
    start_forkserver,
)
from vramcast.run.process import MEMORY, NoPrediction, preloaded
from vramcast.run.process import predict as predict_one

GPUS = 4  # that a script finds, as for the published figures
KEPT = (
    "script", "reserved_gb", "allocated_gb", "host_gb", "breakdown_gb", "peak_phase", "peak_module",
    "batch_size", "host_training_gb", "created_gb", "reserved_least_gb", "room_gb", "like",
    "groups", "cost",
)  # fmt: skip
TODAY = (
    "Predicted peaks in GB. reserved, allocated: of GPU memory; host: of tensors in the host's.\n"
    "≤: at most, where streams share memory (see docs/how-prediction-works.md).\n"
    "How this compares with published figures: --as-of 2023"
)
THEN = (
    "reserved: predicted peak in GB, by the rules of the PyTorch that the published figures were\n"
    "measured with. Where streams share memory it lies between the two, and so should what is "
    "published."
)

Ask = Callable[[Path, Options], dict]
RUNGS = Path("the ladder")  # as what all of them are told on the terminal
running = Running()


def one(script: Path, options: Options) -> dict:
    """A script's prediction, with its path in the repository. Raises NoPrediction."""
    try:
        row = predict_one(script, options, running.told(script))
    except NoPrediction as failure:
        raise NoPrediction(display_name(script), failure.reason) from None
    finally:
        running.done(script)
    return row | {"script": display_name(script)}


def published(scripts: list[Path]) -> list[Path]:
    """Those of the scripts for which a memory figure is published."""
    known = rows.by_script(ROOT / "results" / "published.json")
    return [script for script in scripts if display_name(script) in known]


def predict_all(
    scripts: list[Path],
    options: Options,
    results: Path,
    one: Ask = one,
    before: Mapping[Path, dict] = MappingProxyType({}),
) -> int:
    """Predict all but those of which there is a row from before, print the table, keep the rows.

    Returns the exit status.

    `one` predicts one script. If that cannot be done, the script's row says why, and the others are
    not affected. With `options.timeline`, one training step of each is kept in steps.json beside
    `results`.
    """
    known, found = rows.by_script(ROOT / "results" / "published.json"), []
    kind = "predicted_2023" if options.as_of else "predicted"
    courses = []  # of one training step each
    told = running.counted(RUNGS)
    print(f"{THEN if options.as_of else TODAY}\n\n{heading(options)}", flush=True)
    try:
        with Pool(cores(), available_memory()) as pool:
            for script in scripts:
                if script not in before:
                    pool.submit(one, script, options, memory=MEMORY)
            done = pool.in_order()
            for number, script in enumerate(scripts):
                told(number, len(scripts))
                if script in before:
                    row = before[script]
                    print(line(row, known.get(row["script"]), options), flush=True)
                    continue
                future = next(done)
                try:
                    row = future.result()
                except NoPrediction as failure:
                    found.append({"script": failure.script, "error": failure.reason})
                    name = plain(script.name)
                    print(f"{name:28s}  no prediction: {failure.reason}", flush=True)
                    continue
                kept = {key: row[key] for key in KEPT if key in row}
                found.append(kept | {"fingerprint": fingerprints.of(script, kind)})
                if options.timeline and row["timeline"]:
                    courses.append({"script": row["script"]} | steps.shorten(row["timeline"]))
                print(line(row, known.get(row["script"]), options), flush=True)
    finally:  # after Ctrl-C, too
        kept = keep(found, results) and keep(courses, results.with_name("steps.json"))
        running.done(RUNGS)
        if found and kept:
            print(f"Rows kept in {results}")
        if before:
            print(rows.told_unchanged(len(before)))
    if not kept:
        return 2
    failed = [row for row in found if "error" in row]
    if not failed:
        return 0
    print(f"{len(failed)} of {len(scripts)} could not be predicted:")
    for row in failed:
        print(plain(f"  {row['script']}: {row['error']}"))
    return 2


def keep(found: list[dict], results: Path) -> bool:
    """Keep rows, if there are any; if that fails (a full disk, say), say so. Whether they are."""
    try:
        if found:
            rows.keep(found, results)
    except (OSError, rows.Damaged) as error:
        scripts = ", ".join(row["script"] for row in found)
        print(f"Not kept in {results}: the rows of {scripts}: {error}", file=sys.stderr)
        return False
    return True


def heading(options: Options) -> str:
    """The first line of the table."""
    if options.as_of:
        return f"{'script':28s}  at least  reserved  published    error"
    return f"{'script':28s}  reserved  allocated      host"


def line(row: dict, known: dict | None, options: Options) -> str:
    """A line of the table; `known` is the published row, if there is one."""
    name = f"{plain(row['script'].rpartition('/')[2]):28s}"
    if options.as_of:
        least = f"{row['reserved_least_gb']:8.2f}" if is_range(row) else " " * 8
        cells = [name, least, f"{row['reserved_gb']:8.2f}", *_beside(row, known)]
    else:
        reserved = ("≤ " if is_range(row) else "") + f"{row['reserved_gb']:.2f}"
        cells = [name, f"{reserved:>8s}", f"{row['allocated_gb']:9.2f}", f"{row['host_gb']:8.2f}"]
    return "  ".join([*cells, f"{row['seconds']:6.1f} s" if "seconds" in row else "kept"])


def _beside(row: dict, known: dict | None) -> list[str]:
    """The published figure, and how far the prediction is off."""
    if known is None:
        return [" " * 9, " " * 7]
    figure = f"{known['gb']:9.2f}"
    if "what" in known:  # of the model's creation alone
        return [figure, f"(creation: {row['created_gb']:.2f})"]
    if not is_range(row):
        return [figure, f"{100 * (row['reserved_gb'] / known['gb'] - 1):+6.1f}%"]
    return [figure, where(known["gb"], row)]


def main() -> int:
    parser = Parser(
        prog="python -m ladder.predict",
        description="Predict the GPU memory of the ladder's scripts, without a GPU.",
    )
    parser.add_argument("script", nargs="*", help="a script; none means the whole ladder")
    parser.add_argument(
        "--as-of", type=int, choices=[2023], metavar="2023",
        help="by the rules of the published figures' PyTorch",
    )  # fmt: skip
    parser.add_argument(
        "--resume", action="store_true",
        help="leave out scripts whose rows are kept, if neither they nor packages have changed",
    )  # fmt: skip
    parser.add_argument("--results", type=Path, metavar="FILE", help="where rows are kept")
    asked = parser.parse_args()
    then = f"_{asked.as_of}" if asked.as_of else ""
    results = asked.results or rows.LOCAL / f"predicted{then}.json"
    try:
        scripts = find_scripts(asked.script)
        if asked.as_of and not asked.script:
            scripts = published(scripts)
        rows.check(results)
        kind = "predicted_2023" if asked.as_of else "predicted"
        before = rows.unchanged(results, scripts, kind) if asked.resume else {}
    except (UnknownScript, LadderError, ValueError) as error:
        parser.error(str(error))
    whole = not asked.as_of  # what the pages are made from
    options = Options(gpus=GPUS, as_of=asked.as_of, room=whole, timeline=whole)
    try:
        end_as_after_ctrl_c()
        start_forkserver("vramcast.run.script", *preloaded(*scripts))
        return predict_all(scripts, options, results, before=before)
    except BrokenPipeError:
        raise
    except (Ended, OSError) as failure:
        print(f"Stopped: {failure}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        known = "".join(f"\n  {report}" for report in running.reports.values())
        print(f"\nStopped.{known}", file=sys.stderr)
        return 130
    finally:
        end_forkserver()


if __name__ == "__main__":
    as_command(main)
