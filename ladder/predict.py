"""Predictions of several scripts: printed beside published figures, and kept."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ladder import rows, steps
from ladder.rungs import ROOT
from ladder.scripts import display_name
from vramcast.command import report as answers
from vramcast.options import Options
from vramcast.processes.supervisor import end_all
from vramcast.run.process import NoPrediction

JOBS = 2  # scripts at a time
KEPT = (
    "script", "reserved_gb", "allocated_gb", "host_gb", "breakdown_gb", "peak_phase", "peak_module",
    "batch_size", "host_training_gb", "created_gb", "reserved_least_gb", "room_gb", "cost",
)  # fmt: skip
Ask = Callable[[Path, Options], dict]


def published(scripts: list[Path]) -> list[Path]:
    """The published rows with a memory figure, by script."""
    known = rows.by_script(ROOT / "results" / "published.json")
    return [script for script in scripts if display_name(script) in known]


def predict_all(scripts: list[Path], options: Options, results: Path, one: Ask) -> int:
    """Predict all, print the table, keep the rows; the exit status.

    `one` predicts one script. If that cannot be done, the script's row says why, and the others are
    not affected. With `options.timeline`, one training step of each is kept in steps.json beside
    `results`.
    """
    known, found = rows.by_script(ROOT / "results" / "published.json"), []
    courses = []  # of one training step each
    print(answers.heading(options), flush=True)
    with ThreadPoolExecutor(JOBS) as pool:
        waiting = [(script, pool.submit(one, script, options)) for script in scripts]
        try:
            for script, future in waiting:
                try:
                    row = future.result()
                except NoPrediction as failure:
                    found.append({"script": failure.script, "error": failure.reason})
                    print(f"{script.name:28s}  no prediction: {failure.reason}", flush=True)
                    continue
                found.append({key: row[key] for key in KEPT if key in row})
                if options.timeline and row["timeline"]:
                    courses.append({"script": row["script"]} | steps.shorten(row["timeline"]))
                print(answers.ladder_line(row, known.get(row["script"]), options), flush=True)
        except BaseException:  # Ctrl-C, say
            pool.shutdown(wait=False, cancel_futures=True)
            end_all()  # which the pool's threads wait for
            raise
        finally:
            if found:
                rows.keep(found, results)
                if courses:
                    rows.keep(courses, results.with_name("steps.json"))
                print(f"{answers.legend(options)}\nRows kept in {results}")
    failed = [row for row in found if "error" in row]
    if not failed:
        return 0
    print(f"{len(failed)} of {len(scripts)} could not be predicted:")
    for row in failed:
        print(f"  {row['script']}: {row['error']}")
    return 2
