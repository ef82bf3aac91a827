"""Run the ladder's scripts, unmodified, on this machine's CPU: small model, real but small data.

    python rehearse.py                          the whole ladder
    python rehearse.py 03_bfloat16.py           one script, or several
    python rehearse.py --show 03_bfloat16.py    with the script's own output

Stand-ins take the place of GPUs, data and pretrained models (see stand_ins/); a script for several
GPUs runs in several processes. The rows of the table are kept in results/rehearsed.json, from which
README.md's tables are made.
"""

import argparse
import importlib.util
import json
import math
import os
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from stand_ins.ladder import ROOT, LadderError, read_ladder
from stand_ins.processes import (
    UnknownScript,
    display_name,
    end_as_after_ctrl_c,
    end_forkserver,
    find_scripts,
    run,
    scratch_folder,
    start_forkserver,
    write_json,
)

RESULTS = ROOT / "results" / "rehearsed.json"
NEEDED = ("torch", "torchvision", "lightning", "torchmetrics", "tqdm", "watermark")
NEEDED += ("sklearn", "safetensors")
COLUMNS = (  # key, heading, width, format
    ("script", "script", 28, "s"),
    ("precision", "precision that ran", 25, "s"),
    ("ranks", "ranks", 5, "d"),
    ("parameters_held", "par.", 4, ".0%"),
    ("optimizer_held", "opt.", 4, ".0%"),
    ("seconds", "seconds", 7, ".1f"),
    ("images_per_second", "samples/s", 9, ".0f"),
    ("loss_first", "loss: first", 11, ".3f"),
    ("loss_last", "last", 6, ".3f"),
    ("accuracy", "test acc.", 9, ".1%"),
    ("host_gb", "host GB", 7, ".2f"),
)
LEGEND = (
    "ranks: processes that trained together. par., opt.: of the parameters and of the optimizer's\n"
    "numbers, what one rank keeps. samples/s, losses: of all ranks. host GB: of the largest rank.\n"
    "seconds: from the script's first line to its last."
)


def table_line(texts: Iterable[str]) -> str:
    """One line of the table from one text a column."""
    return "  ".join(
        text.ljust(width) if form == "s" else text.rjust(width)
        for text, (_, _, width, form) in zip(texts, COLUMNS, strict=True)
    )


def table_row(row: dict) -> str:
    """A script's line of the table; a failed script's ends with FAILED."""
    row = row | {"script": Path(row["script"]).name}
    values = [(row[key], form) for key, _, _, form in COLUMNS]
    line = table_line("-" if value is None else format(value, form) for value, form in values)
    return line if row["ok"] else f"{line}  FAILED"


def rehearse(script: Path, show: bool) -> tuple[dict, str]:
    """Run one script on stand-ins in a process of its own: its row, and its output if hidden."""
    with scratch_folder("rehearsal-") as folder:
        output = folder / "output.txt"
        status = run(run_script, folder, script, None if show else output)
        row = {key: None for key, *_ in COLUMNS}
        row |= {"script": display_name(script), "ok": status == 0}
        ranks = sorted(folder.glob("rank-*.json"))
        row |= together([json.loads(file.read_text()) for file in ranks])
        text = output.read_text(errors="replace") if output.exists() else ""
        if status < 0:
            text += f"\nended by signal {-status} ({signal.Signals(-status).name})"
        return row, text


def run_script(folder: Path, send: Callable, script: Path, output: Path | None) -> None:
    """In a process of its own: run the script, with its output in a file or as it is."""
    from tqdm import tqdm

    from stand_ins.run import main

    target = os.open(output or os.devnull, os.O_CREAT | os.O_RDWR)
    for stream in (1, 2) if output else (0,):
        os.dup2(target, stream)
    sys.stdout.reconfigure(line_buffering=True)
    tqdm.set_lock(threading.RLock())  # by default a semaphore, which outlives a killed process
    os.environ["DATA_DIR"] = str(folder)
    os.environ["RESULTS_DIR"] = str(folder)  # a rehearsal is not a measurement
    os.environ["PYTHONUNBUFFERED"] = "1"

    main(str(script), str(folder))


def together(ranks: list[dict]) -> dict:
    """What was observed in all of a script's processes, from what was observed in each."""

    def over(key: str, combine) -> float | None:
        values = [rank[key] for rank in ranks]
        return None if None in values else combine(values)

    if not ranks:
        return {}
    return ranks[0] | {
        "ranks": len(ranks),
        "parameters_held": over("parameters_held", max),
        "optimizer_held": over("optimizer_held", max),
        "seconds": over("seconds", max),
        "images_per_second": over("images_per_second", sum),
        "loss_first": over("loss_first", statistics.fmean),
        "loss_last": over("loss_last", statistics.fmean),
        "host_gb": over("host_gb", max),
    }


def read_rows(results: Path) -> list[dict]:
    """The rows kept so far; ValueError if the file holds something else."""
    text = results.read_text() if results.exists() else ""
    rows = json.loads(text) if text.strip() else []
    if not (isinstance(rows, list) and all("script" in row for row in rows)):
        raise ValueError("not a list of rows")
    return rows


def keep(row: dict, results: Path) -> None:
    """Put a row in the results file in place of the script's older one; the others stay.

    JSON has no NaN and no infinity: a loss that is one is written as null. Rows of scripts that
    are gone are dropped. The rows stand in the ladder's order, other scripts last.
    """
    finite = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in row.items()
    }
    rows = [old for old in read_rows(results) if old["script"] != row["script"]] + [finite]
    rows = [kept for kept in rows if (ROOT / kept["script"]).exists()]
    try:
        order = {rung.script: place for place, rung in enumerate(read_ladder())}
    except LadderError:  # somebody's script without a docstring must not cost a row
        order = {}
    rows.sort(key=lambda kept: (order.get(kept["script"], len(order)), kept["script"]))
    write_json(rows, results)


def update_readme() -> None:
    """Bring the README's table up to date with results/rehearsed.json."""
    from docs import generate

    try:
        for path in generate.write():
            print(f"{path.relative_to(ROOT)} is up to date with it")
    except (LadderError, ValueError) as error:
        print(f"README.md's table was not updated: {error}")


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Run scripts of the ladder, unmodified, on this machine's CPU."
    )
    parser.add_argument("script", nargs="*", help="a script; none means the whole ladder")
    parser.add_argument("--show", action="store_true", help="show the scripts' own output")
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="where rows are kept (default: %(default)s)"
    )
    options = parser.parse_args()
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        parser.error(
            f"not installed here: {', '.join(missing)}. Install with  "
            "pip install -r requirements-dev.txt  or run  make ladder"
        )
    try:
        scripts = find_scripts(options.script)
    except (UnknownScript, LadderError) as error:
        parser.error(str(error))
    try:
        read_rows(options.results)
    except ValueError as error:
        parser.error(f"{options.results} is no file of rehearsal rows ({error}); move it away")

    end_as_after_ctrl_c()
    running_row = sys.stdout.isatty() and not options.show  # shown while its script runs
    start, failed, done, kept, replaced = time.monotonic(), [], 0, 0, {}
    print(table_line(heading for _, heading, _, _ in COLUMNS), flush=True)
    try:
        start_forkserver("stand_ins.run")
        for script in scripts:
            if running_row:
                print(script.name, end="", flush=True)
            row, output = rehearse(script, options.show)
            done += 1
            replaced |= row.pop("stand_ins", {})
            if script.is_relative_to(ROOT) or options.results != RESULTS:
                keep(row, options.results)
                kept += 1
            print(("\r" if running_row else "") + table_row(row), flush=True)
            if not row["ok"]:
                failed.append(row["script"])
                print("".join(f"    {line}\n" for line in output.splitlines()[-20:]), flush=True)
    except KeyboardInterrupt:
        print(f"\nStopped. {done} of {len(scripts)} scripts ran.")
        return 130
    finally:
        end_forkserver()
        if kept:
            print(f"Rows kept in {options.results}")
            if options.results == RESULTS:
                update_readme()
    print(f"\n{LEGEND}\n\nWhat ran in the place of what:")
    print("".join(f"  {asked}: {given}\n" for asked, given in replaced.items()))
    seconds = time.monotonic() - start
    print(f"{done - len(failed)} of {done} scripts ran to the end, in {seconds:.0f} s.")
    if failed:
        print("Failed: " + ", ".join(failed) + "  (--show shows a script's whole output)")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
