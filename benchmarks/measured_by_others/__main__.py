"""Predict what others measured: python -m benchmarks.measured_by_others [--missing] [WORDS …]

Writes results/others.json. With words, only figures whose project or description has one of them
are predicted; with --missing, only those without a prediction there. The others' rows stay. As many
run at a time as cores and memory allow. Packages: pip install -r benchmarks/requirements.txt
"""

import argparse
import json
import tempfile
from pathlib import Path

from benchmarks.measured_by_others.case import Case, name_of
from benchmarks.measured_by_others.cases import CASES
from ladder.rungs import ROOT
from vramcast import gpus
from vramcast.options import Options
from vramcast.processes.pool import Pool, available_memory, cores
from vramcast.processes.supervisor import end_forkserver, start_forkserver, write_json
from vramcast.run.process import NoPrediction, predict

RESULTS = ROOT / "results" / "others.json"
MEMORY = 3e9  # bytes that a prediction's process may take
LONGEST = 900  # seconds for one; BOFT makes and joins thousands of blocks for each layer
# The last line is for vramcast, which tells by such a name that torchrun starts the script.
SCRIPT = """
import sys
sys.path.insert(0, {root!r})
from benchmarks.measured_by_others import {module}
{module}.{function}(**{arguments!r})
{torchrun}"""


def predicted(case: Case, folder: Path) -> dict:
    """The prediction of a case's run. Raises NoPrediction as `predict` does."""
    module, function = case.step.split(".")
    script = folder / f"{hash(case.run):x}.py"
    script.write_text(
        SCRIPT.format(
            root=str(ROOT), module=module, function=function, arguments=case.arguments,
            torchrun="# LOCAL_RANK" if case.gpus > 1 else "",
        )
    )  # fmt: skip
    gpu = gpus.find(case.gpu)
    return predict(script, Options(gpu, gpus=case.gpus, as_of=case.as_of, time_limit=LONGEST))


def row(case: Case, found: dict) -> dict:
    """A case's row: the same quantity as was measured, in GB."""
    return case.row() | {
        "predicted_gb": found[f"{case.quantity}_gb"],
        "like": found.get("like", "plain"),
        "seconds": round(found["seconds"], 1),
    }


def line(row: dict) -> str:
    """What is said of a row when it is there."""
    name = f"{row['project']}, {row['what']}"
    if "error" in row:
        return f"{name}: {row['error']}"
    return (
        f"{name}: {row['quantity']}, measured {row['measured_gb']:.2f} GB, predicted "
        f"{row['predicted_gb']:.2f} ({row['predicted_gb'] / row['measured_gb'] - 1:+.1%}), "
        f"{row['seconds']} s"
    )


def keep(known: dict[tuple, dict]) -> None:
    """Write the rows of all figures that have one, as they are described today."""
    rows = [known[case.name] | case.row() for case in CASES if case.name in known]
    write_json(rows, RESULTS)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.measured_by_others")
    parser.add_argument("--missing", action="store_true", help="only what has no prediction yet")
    parser.add_argument("words", nargs="*", help="only what has one of these in its name")
    asked = parser.parse_args()
    known = {}
    if RESULTS.exists():
        known = {name_of(old): old for old in json.loads(RESULTS.read_text())}
    chosen = [
        case
        for case in CASES
        if (not asked.words or any(word in f"{case.project}, {case.what}" for word in asked.words))
        and (not asked.missing or "predicted_gb" not in known.get(case.name, {}))
    ]
    runs: dict[tuple, list[Case]] = {}
    for case in chosen:
        runs.setdefault(case.run, []).append(case)
    start_forkserver("vramcast.run.script")
    try:
        with tempfile.TemporaryDirectory() as folder, Pool(cores(), available_memory()) as pool:
            for cases in runs.values():
                pool.submit(predicted, cases[0], Path(folder), memory=MEMORY)
            for cases, future in zip(runs.values(), pool.in_order()):
                for case in cases:
                    try:
                        known[case.name] = row(case, future.result())
                    except NoPrediction as failure:
                        known[case.name] = case.row() | {"error": failure.reason}
                    print(line(known[case.name]), flush=True)
                keep(known)
    finally:
        end_forkserver()


if __name__ == "__main__":
    main()
