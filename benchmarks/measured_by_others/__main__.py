"""Predict what others measured: python -m benchmarks.measured_by_others [WORDS …]

Writes results/others.json; with words, only the figures whose project or description has one of
them are predicted, and the others' rows stay. Packages: pip install -r benchmarks/requirements.txt
"""

import json
import sys
import tempfile
from pathlib import Path

from benchmarks.measured_by_others.cases import CASES, Case
from ladder.rungs import ROOT
from vramcast import gpus
from vramcast.options import Options
from vramcast.processes.supervisor import end_forkserver, start_forkserver, write_json
from vramcast.run.process import NoPrediction, predict

RESULTS = ROOT / "results" / "others.json"
SCRIPT = """
import sys
sys.path.insert(0, {root!r})
from benchmarks.measured_by_others import {module}
{module}.{function}(**{arguments!r})
"""


def predicted(case: Case, folder: Path) -> dict:
    """A case's row: the same quantity as was measured, in GB, or why there is no prediction."""
    module, function = case.step.split(".")
    script = folder / "step.py"
    script.write_text(
        SCRIPT.format(root=str(ROOT), module=module, function=function, arguments=case.arguments)
    )
    options = Options(gpus.find(case.gpu), as_of=case.as_of)
    try:
        found = predict(script, options)
    except NoPrediction as failure:
        return case.row() | {"error": failure.reason}
    return case.row() | {
        "predicted_gb": found[f"{case.quantity}_gb"],
        "seconds": round(found["seconds"], 1),
    }


def main() -> None:
    words = sys.argv[1:]
    known = {}
    if words and RESULTS.exists():
        known = {(row["source"], row["what"]): row for row in json.loads(RESULTS.read_text())}
    start_forkserver("vramcast.run.script")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            if words and not any(word in f"{case.project}, {case.what}" for word in words):
                rows += [row for row in [known.get((case.source, case.what))] if row]
                continue
            row = predicted(case, Path(folder))
            rows.append(row)
            if "error" in row:
                print(f"{case.project}, {case.what}: {row['error']}", flush=True)
                continue
            print(
                f"{case.project}, {case.what}: measured {case.measured_gb:.2f} GB, predicted "
                f"{row['predicted_gb']:.2f} ({row['predicted_gb'] / case.measured_gb - 1:+.1%}), "
                f"{row['seconds']} s",
                flush=True,
            )
    end_forkserver()
    write_json(rows, RESULTS)


if __name__ == "__main__":
    main()
