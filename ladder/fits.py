"""Which scripts of the ladder fit a GPU?  python -m ladder.fits GPU [SCRIPT]

    python -m ladder.fits 8               all scripts, at once, from recorded predictions
    python -m ladder.fits T4 03           the first script after 03 that fits, predicted for a T4

GPU is a GPU's name, or its memory in GB. Exit status: 0; 1 if no script fits; 2 if nothing can be
said.
"""

import sys
from pathlib import Path

from ladder import predict
from ladder.pages.costs import relative
from ladder.rows import by_script
from ladder.rungs import (
    FAMILIES,
    ROOT,
    LadderError,
    Rung,
    family,
    needs_bfloat16,
    of_family,
    read_ladder,
    several_gpus,
    stem,
)
from ladder.scripts import UnknownScript, display_name, find_scripts
from vramcast import evidence, gpus
from vramcast.gpus import Model
from vramcast.options import Options
from vramcast.prediction import word
from vramcast.processes.entry import Parser, as_command, end_as_after_ctrl_c
from vramcast.processes.supervisor import (
    Ended,
    end_forkserver,
    start_forkserver,
)
from vramcast.run.process import NoPrediction, preloaded

RESULTS = ROOT / "results"
SEVERAL = ", on four of them"
MEANING = """
GB: the least memory with which a script runs, predicted for an A100 and recorded. Where there is
more, PyTorch reserves somewhat more. FLOPs: for each sample, of the model's first script's.
For this GPU's own figures:
python -m vramcast SCRIPT --gpu GPU"""


def learns(row: dict | None) -> bool:
    """Whether a script's row of the rehearsal leaves that possible: without one, nobody knows."""
    return row is None or row.get("learned") is not False


def suggested(ladder: list[Rung], model: str) -> list[Rung]:
    """The scripts that train a model (see `rungs.family`), in the order in which to suggest them.

    Variants come last. What learned nothing in the rehearsal is a lesson and no suggestion.
    """
    rehearsed = by_script(RESULTS / "rehearsed.json")
    rungs = [rung for rung in of_family(ladder, model) if learns(rehearsed.get(rung.script))]
    return sorted(rungs, key=lambda rung: rung.variant)  # stable: else in the ladder's order


def verdict(row: dict, gpu: Model) -> str:
    """Whether a script runs on a GPU, by its row: "room_gb" is the least memory that it needs."""
    if needs_bfloat16(row["script"]) and not gpu.bfloat16:
        return "needs bfloat16"
    return word(*evidence.judged(gpu, row))


def show(gpu: Model) -> int:
    """Print the first script that fits, for each model and batch, and all verdicts; exit status."""
    ladder, rows = read_ladder(), by_script(RESULTS / "predicted.json")
    costs = relative(ladder, rows)
    if all("room_gb" not in row for row in rows.values()):
        raise LadderError(
            f"{RESULTS / 'predicted.json'} holds no prediction of what a script needs at least. "
            "Get it back:  git checkout results/predicted.json"
        )
    first: dict[tuple[str, int], str] = {}  # by the model, on how many GPUs, and by the batch
    lines = []
    for model in FAMILIES:
        lines.append(f"\n{model}")
        for rung in suggested(ladder, model):
            row = rows.get(rung.script, {})
            if "room_gb" not in row:
                lines.append(f"  {'?':>6s} GB  not predicted   {stem(rung.script)}")
                continue
            told = verdict(row, gpu)
            several = several_gpus(rung.script)
            if told == "fits":
                first.setdefault((f"{model}{SEVERAL * several}", row["batch_size"]), rung.script)
            kind = " (variant)" * rung.variant + ", on each of four" * several
            name = f"batch {row['batch_size']:2d}  {stem(rung.script)}{kind}"
            lines.append(f"  {row['room_gb']:6.2f} GB  {told:14s}  {name}")
    room = (gpu.memory - sum(evidence.left_out(gpu, groups=0).values())) / 1e9
    print(f"The first that fits {gpu.name} ({room:.2f} GB beside CUDA's context and kernels):")
    order = [f"{model}{some}" for model in FAMILIES for some in ("", SEVERAL)]
    for what, batch in sorted(first, key=lambda found: (order.index(found[0]), -found[1])):
        script = first[what, batch]
        cost = f", FLOPs × {costs[script][1]:.2f}" if script in costs else ""
        print(f"  {what}, batches of {batch}{cost}: python {script}")
    if not first:
        print("  none")
    print(MEANING)
    print("\n".join(lines))
    return 0 if first else 1


def first_later(script: Path, gpu: Model) -> int:
    """Predict the scripts after this one, of the same model, until one fits; the exit status.

    What the GPU cannot compute is passed over.
    """
    ladder, name = read_ladder(), display_name(script)
    scripts = [rung.script for rung in ladder]
    if name not in scripts:
        raise LadderError(f"{name} is no script of the ladder")
    rungs = suggested(ladder[scripts.index(name) + 1 :], family(name))
    later = [rung.script for rung in rungs if gpu.bfloat16 or not needs_bfloat16(rung.script)]
    if passed := len(rungs) - len(later):
        print(f"passed over: {passed} scripts in bfloat16, in which a {gpu.name} does not compute")
    options = Options(gpu, gpus=predict.GPUS, capacity=True)
    for other in later:
        try:
            row = predict.one(ROOT / other, options)
        except NoPrediction as failure:
            print(f"passed over: {failure}")
            continue
        if row["fits"]:
            print(f"The first later script that fits: {other}, {row['reserved_gb']:.2f} GB")
            return 0
        print(f"{other} does not fit: {row['reserved_gb']:.2f} GB", flush=True)
    print(f"No later script fits {gpu.name}")
    return 1


def main() -> int:
    parser = Parser(
        prog="python -m ladder.fits", description="Which scripts of the ladder fit a GPU?"
    )
    parser.add_argument("gpu", metavar="GPU", help="GB, or one of " + ", ".join(gpus.KNOWN))
    parser.add_argument("script", nargs="?", help="the first that fits after this one")
    asked = parser.parse_args()
    try:
        gpu = gpus.find(asked.gpu)
        if not asked.script:
            return show(gpu)
        (script,) = find_scripts([asked.script])
        end_as_after_ctrl_c()
        start_forkserver("vramcast.run.script", *preloaded(script))
        return first_later(script, gpu)
    except (ValueError, UnknownScript, LadderError) as error:
        parser.error(str(error))
    except BrokenPipeError:
        raise
    except (Ended, OSError) as failure:
        print(f"Stopped: {failure}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130
    finally:
        end_forkserver()


if __name__ == "__main__":
    as_command(main)
