"""Predict the examples that docs/ shows: python -m ladder.examples [SCRIPT …] [--results FILE]

An example is a pair of scripts in examples/: NAME.py, and NAME_after.py with one thing changed.
Without scripts, all are predicted, and their rows are kept in results/examples/.
"""

import dataclasses
import sys
from pathlib import Path

from ladder import predict
from ladder.rungs import ROOT
from vramcast.options import Options
from vramcast.processes.entry import Parser, as_command, end_as_after_ctrl_c
from vramcast.processes.supervisor import (
    end_forkserver,
    start_forkserver,
)
from vramcast.run.process import preloaded
from vramcast.run.source import several_gpus

FOLDER = ROOT / "examples"
RESULTS = ROOT / "results" / "examples" / "predicted.json"
AFTER = "_after.py"


def pairs() -> list[tuple[Path, Path]]:
    """All examples: the script before, and after the change."""
    changed = sorted(FOLDER.glob(f"*/*{AFTER}"))
    return [(after.with_name(after.name.replace(AFTER, ".py")), after) for after in changed]


def scripts() -> list[Path]:
    """The scripts of all pairs."""
    return [script for pair in pairs() for script in pair]


def one(script: Path, options: Options) -> dict:
    """An example's prediction, on one GPU unless it is for several. Raises NoPrediction."""
    several = several_gpus(script.read_bytes())
    return predict.one(script, dataclasses.replace(options, gpus=predict.GPUS if several else 1))


def main() -> int:
    parser = Parser(prog="python -m ladder.examples")
    parser.add_argument("script", nargs="*", type=Path)
    parser.add_argument("--results", type=Path, default=RESULTS)
    asked = parser.parse_args()
    chosen = [path.resolve() for path in asked.script] or scripts()
    try:
        end_as_after_ctrl_c()
        start_forkserver("vramcast.run.script", *preloaded(*chosen))
        return predict.predict_all(chosen, Options(timeline=True), asked.results, one)
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130
    finally:
        end_forkserver()


if __name__ == "__main__":
    as_command(main)
