"""Predict a script's peak GPU memory on a machine without a GPU, without data and without weights.

    python predict_memory.py 03_bfloat16.py              what it needs, and what for
    python predict_memory.py 03_bfloat16.py --gpu 8      does it fit a GPU of 8 GB? (or: T4, H100 …)
    python predict_memory.py 03_bfloat16.py --fits 12    the largest batch that fits 12 GB
    python predict_memory.py                             the whole ladder beside published figures

The script runs unmodified, on tensors that have a shape and no numbers (see
docs/how-prediction-works.md). GB are 1e9 bytes. Exit status: 0, 1 if it does not fit, 2 if nothing
can be said.
"""

import argparse
import importlib.util
import json
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from stand_ins import gpus
from stand_ins.ladder import ROOT, LadderError, family, read_ladder
from stand_ins.options import Options
from stand_ins.processes import (
    Ended,
    UnknownScript,
    display_name,
    end_all,
    end_as_after_ctrl_c,
    end_forkserver,
    find_scripts,
    run,
    scratch_folder,
    start_forkserver,
    write_json,
)

RESULTS = ROOT / "results" / "predicted.json"
NEEDED = ("torch", "torchvision", "lightning", "torchmetrics", "tqdm", "watermark", "matplotlib")
KEYS = (
    "script", "reserved_gb", "allocated_gb", "host_gb", "breakdown_gb", "peak_phase", "peak_module",
    "seconds", "host_training_gb", "created_gb", "reserved_late_gb", "fits", "reserved_within_gb",
)  # fmt: skip
KEPT = (
    *KEYS[:7], "batch_size", "host_training_gb", "created_gb", "reserved_late_gb",
    "reserved_2023_gb",
)  # fmt: skip
LEGEND = (
    "reserved, allocated: predicted peaks in GB. behind: reserved, if the GPU is far behind the\n"
    "CPU. Adam 2023: reserved, with Adam as PyTorch had it when the published figures were\n"
    "measured; the error is that one's, where there is one."
)
JOBS = 2  # scripts of the ladder at a time


class NoPrediction(Exception):
    """Nothing can be said about a script, and why."""


def predict(script: Path, options: Options, show: bool = False) -> dict:
    """Predict one script in a process of its own; NoPrediction."""
    with scratch_folder("prediction-") as folder:
        status = run(run_script, folder, script, options, show)
        result = folder / "result.json"
        if not result.exists():
            output = folder / "output.txt"
            last = output.read_text(errors="replace").splitlines()[-5:] if output.exists() else []
            raise NoPrediction(
                f"{display_name(script)}: its process ended with status {status}\n"
                + "".join(f"    {line}\n" for line in last)
            )
        row = {"script": display_name(script)} | json.loads(result.read_text())
    if "error" in row:
        raise NoPrediction(f"{row['script']}: {row['error']}")
    return row


def run_script(folder: Path, send: Callable, script: Path, options: Options, show: bool) -> None:
    """In a process of its own: predict, and leave the result in the folder."""
    target = 2 if show else os.open(folder / "output.txt", os.O_CREAT | os.O_WRONLY)
    for stream in (1, 2):  # the command's standard output is for the result
        os.dup2(target, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for name in ("DATA_DIR", "RESULTS_DIR", "TMPDIR", "HOME", "HF_HOME", "TORCH_HOME"):
        os.environ[name] = str(folder)
    tempfile.tempdir = str(folder)
    sys.dont_write_bytecode = True
    from tqdm import tqdm

    from stand_ins import predict

    tqdm.set_lock(threading.RLock())  # by default a semaphore, which outlives a killed process
    row = predict.predict(script, folder, options)
    write_json(row, folder / "result.json")
    os._exit(0)


# ------------------------------------------------------------------------------------- one script


def describe(row: dict, options: Options) -> str:
    """A prediction in a few lines."""
    late = row.get("reserved_late_gb", 0)
    reserved = f"{row['reserved_gb']:.2f}"
    if late - row["reserved_gb"] >= 0.005:
        reserved += f" to {late:.2f}"
    kinds = ", ".join(f"{kind} {size:.2f}" for kind, size in row["breakdown_gb"].items())
    module = f", {row['peak_module']}" if row["peak_module"] else ""
    batch = f", batches of {options.batch_size}" if options.batch_size else ""
    lines = [
        f"{row['script']}{batch}: {reserved} GB reserved, {row['allocated_gb']:.2f} GB allocated "
        "(predicted peaks)",
        f"  then: {kinds}",
        f"  where: {row['peak_phase']}{module}",
        f"  host: {row['host_gb']:.2f} GB of tensors, {row['host_training_gb']:.2f} GB of them "
        "while it trains",
        *(f"  note: {note}" for note in dict.fromkeys(row["notes"])),
    ]
    return "\n".join(lines)


def describe_fit(row: dict, model: gpus.Model) -> str:
    """Whether it fits, and by how much."""
    context, memory = model.context / 1e9, model.memory / 1e9
    inside = row["reserved_within_gb"]
    needed = inside if row["fits"] else row["reserved_gb"]
    rest = memory - context - needed
    verdict = f"fits, {rest:.2f} GB to spare" if row["fits"] else f"does not fit, by {-rest:.2f} GB"
    if row["fits"] and inside < row["reserved_gb"]:
        verdict += " after unused memory was given back"
    return (
        f"  {model.name}, {memory:.2f} GB: {verdict} (about {context:.2f} GB are CUDA's context; "
        f"{2 * model.workspace / 1e9:.2f} GB of what is reserved are cuBLAS's workspaces)"
    )


def first_later(script: Path, options: Options) -> str:
    """The first script after this one, of its model, that fits; variants aside."""
    rungs = [rung for rung in read_ladder() if not rung.variant]
    names = [rung.script for rung in rungs]
    name = display_name(script)
    if name not in names:
        return ""
    later = [other for other in names[names.index(name) + 1 :] if family(other) == family(name)]
    for other in later:
        row = predict(ROOT / other, options)
        if row["fits"]:
            return f"  the first later script that fits: {other}, {row['reserved_gb']:.2f} GB"
    return "  no later script of the ladder fits"


def largest_batch(script: Path, options: Options) -> Iterator[tuple[int, dict]]:
    """Batch sizes and predictions, until the largest that fits is known; NoPrediction.

    Memory grows with the batch nearly along a line, on which the next size to try lies.
    """
    tried: dict[int, dict] = {}

    def fits(size: int) -> bool:
        tried[size] = predict(script, replace(options, batch_size=size))
        return tried[size]["fits"]

    row = predict(script, options)
    if row["batch_size"] is None:
        raise NoPrediction(f"{row['script']}: no DataLoader whose batch size could be changed")
    low, high = 0, options.batch_size or row["batch_size"]
    tried[high] = row
    yield high, row
    while tried[high]["fits"]:
        low, high = high, 2 * high
        fits(high)
        yield high, tried[high]
    while high - low > 1:
        guess = (low + high) // 2
        if low and len(tried) % 3:  # in between, halve: the line is not quite straight
            one, other = tried[low]["reserved_gb"], tried[high]["reserved_gb"]
            limit = (options.gpu.memory - options.gpu.context) / 1e9
            guess = low + int((high - low) * (limit - one) / max(other - one, 1e-9))
            guess = min(max(guess, low + 1), high - 1)
        if fits(guess):
            low = guess
        else:
            high = guess
        yield guess, tried[guess]


# ------------------------------------------------------------------------------------- the ladder


def published() -> dict[str, dict]:
    """The published rows by script."""
    content = json.loads((ROOT / "results" / "published.json").read_text())
    return {row["script"]: row for row in content["rows"]}


def ladder_line(row: dict, known: dict | None) -> str:
    """One line of the table."""
    cells = [
        f"{row['script'].rpartition('/')[2]:28s}",
        f"{row['reserved_gb']:8.2f}",
        f"{row['reserved_late_gb']:8.2f}" if "reserved_late_gb" in row else " " * 8,
        f"{row['reserved_2023_gb']:9.2f}" if "reserved_2023_gb" in row else " " * 9,
        f"{row['allocated_gb']:9.2f}",
    ]
    if known is None:
        cells += [" " * 9, " " * 7]
    elif "what" in known:  # of the model's creation alone
        cells += [f"{known['gb']:9.2f}", f"(creation: {row['created_gb']:.2f})"]
    else:
        value = row.get("reserved_2023_gb", row["reserved_gb"])
        cells += [f"{known['gb']:9.2f}", f"{100 * (value / known['gb'] - 1):+6.1f}%"]
    cells.append(f"{row['seconds']:6.1f} s")
    return "  ".join(cells)


def predict_rung(script: Path, options: Options, known: dict | None) -> dict:
    """A rung's row; where it is published and Adam works on lists, also with Adam as it was."""
    row = predict(script, options)
    if known and "what" not in known and row["adam_lists"]:
        then = predict(script, replace(options, adam_2023=True))
        row["reserved_2023_gb"] = then["reserved_gb"]
    return row


def predict_ladder(scripts: list[Path], options: Options, results: Path | None) -> int:
    """Predict all, print the table, keep it if there is a place to; the exit status."""
    known = published()
    print(
        f"{'script':28s}  reserved    behind  Adam 2023  allocated  published    error", flush=True
    )
    rows, failures = [], []
    with ThreadPoolExecutor(JOBS) as pool:
        waiting = [
            (script, pool.submit(predict_rung, script, options, known.get(display_name(script))))
            for script in scripts
        ]
        try:
            for script, future in waiting:
                try:
                    row = future.result()
                except NoPrediction as failure:
                    failures.append(str(failure))
                    print(f"{script.name:28s}  FAILED: {failure}", flush=True)
                    continue
                rows.append({key: row[key] for key in KEPT if key in row})
                print(ladder_line(row, known.get(row["script"])), flush=True)
        except BaseException:  # Ctrl-C, say
            pool.shutdown(wait=False, cancel_futures=True)
            end_all()  # which the pool's threads wait for
            raise
    if failures:
        print(f"{len(failures)} of {len(scripts)} failed, and nothing was kept.")
        return 2
    if results is None:
        return 0
    write_json(rows, results)
    print(f"{LEGEND}\nRows kept in {results}")
    if results == RESULTS:
        from docs import figures, generate

        for path in [*figures.write(), *generate.write()]:
            print(f"{path.relative_to(ROOT)} is up to date with it")
    return 0


# ---------------------------------------------------------------------------------------- command


def read_options(arguments: list[str] | None = None) -> tuple[argparse.Namespace, Options]:
    """The command line; ends the program with status 2 if it makes no sense."""
    parser = argparse.ArgumentParser(
        description="Predict a script's peak GPU memory, without a GPU.",
        epilog="No script: all of the ladder. Exit status 1: it does not fit; 2: no prediction.",
    )
    parser.add_argument("script", nargs="*", help="a script; none means the whole ladder")
    parser.add_argument("--gpu", metavar="GPU", help="GB, or one of " + ", ".join(gpus.KNOWN))
    parser.add_argument("--fits", metavar="GPU", help="find the largest batch size that fits")
    parser.add_argument("--batch-size", type=int, metavar="N", help="in place of the script's")
    parser.add_argument("--gpus", type=int, default=4, metavar="N", help="GPUs it finds (4)")
    parser.add_argument("--timeline", type=Path, metavar="FILE", help="draw one step's memory")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--show", action="store_true", help="show the script's own output")
    parser.add_argument("--results", type=Path, default=RESULTS, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        parser.error(
            f"not installed here: {', '.join(missing)}. Install with  "
            "pip install -r requirements-dev.txt"
        )
    if asked.gpu and asked.fits:
        parser.error("--gpu asks whether a script fits, --fits for which batch it does: choose one")
    if len(asked.script) != 1 and (asked.gpu or asked.fits or asked.timeline or asked.json):
        parser.error("name the one script that this is asked for")
    for name in ("batch_size", "gpus"):
        if getattr(asked, name) is not None and getattr(asked, name) < 1:
            parser.error(f"--{name.replace('_', '-')} has to be at least 1")
    if asked.timeline and not asked.timeline.absolute().parent.is_dir():
        parser.error(f"there is no folder {asked.timeline.absolute().parent} for the figure")
    try:
        model = gpus.find(asked.gpu or asked.fits) if asked.gpu or asked.fits else gpus.DEFAULT
        asked.scripts = find_scripts(asked.script)
    except (ValueError, UnknownScript, LadderError) as error:
        parser.error(str(error))
    options = Options(
        model, asked.gpus, asked.batch_size, False, bool(asked.gpu or asked.fits),
        asked.timeline is not None,
    )  # fmt: skip
    return asked, options


def predict_one(script: Path, asked: argparse.Namespace, options: Options) -> int:
    """Do what was asked about one script; the exit status. NoPrediction."""
    if asked.fits:
        best = None
        for size, row in largest_batch(script, options):
            verdict = "fits" if row["fits"] else "does not fit"
            text = f"  batches of {size}: {row['reserved_gb']:.2f} GB reserved, {verdict}"
            print(text, file=sys.stderr if asked.json else sys.stdout, flush=True)
            if row["fits"] and (best is None or size > best[0]):
                best = size, row
        if best is None:
            print(f"{display_name(script)}: not even a batch of 1 fits", file=sys.stderr)
            return 1
        options, row = replace(options, batch_size=best[0]), best[1] | {"batch_size": best[0]}
    else:
        row = predict(script, options, asked.show)
    if asked.timeline:
        from docs import figures

        figures.timeline(row["timeline"], row["script"], asked.timeline)
    if asked.json:
        keys = (*KEYS, "batch_size") if asked.fits else KEYS
        print(json.dumps({key: row[key] for key in keys if key in row}))
    else:
        print(describe(row, options))
        if "fits" in row:
            print(describe_fit(row, options.gpu))
        if asked.timeline:
            print(f"  one step's memory is drawn in {asked.timeline}")
        print(f"  predicted in {row['seconds']:.1f} s")
    if row.get("fits", True):
        return 0
    if not asked.json:
        print("Looking for a later script that fits …", flush=True)
        print(first_later(script, options))
    return 1


def main() -> int:
    asked, options = read_options()
    end_as_after_ctrl_c()
    try:
        start_forkserver("stand_ins.predict")
        if len(asked.scripts) == 1:
            return predict_one(asked.scripts[0], asked, options)
        return predict_ladder(asked.scripts, options, None if asked.script else asked.results)
    except (NoPrediction, Ended) as failure:
        print(f"No prediction. {failure}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130
    finally:
        end_forkserver()


if __name__ == "__main__":
    sys.exit(main())
