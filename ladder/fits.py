"""Which scripts of the ladder fit a GPU: an answer at once, from recorded predictions."""

from ladder.fitting import RESULTS, suggested, verdict
from ladder.rows import by_script
from ladder.rungs import read_ladder, several_gpus
from ladder.tables import FAMILIES, stem
from vramcast.options import Options

SEVERAL = ", on four of them"
MEANING = """
GB: the least memory with which a script runs, predicted for an A100 and recorded. Where there is
more, PyTorch reserves somewhat more. For this GPU's own figures, name a script."""


def show(options: Options) -> int:
    """Print for each model the first script that fits, then each script's verdict; exit status."""
    gpu, ladder, rows = options.gpu, read_ladder(), by_script(RESULTS / "predicted.json")
    room = (gpu.memory - gpu.context) / 1e9
    first: dict[str, str] = {}  # by the model, and on how many GPUs
    lines = []
    for model in FAMILIES:
        lines.append(f"\n{model}")
        for rung in suggested(ladder, model):
            row = rows.get(rung.script, {})
            if "room_gb" not in row:
                continue
            told = verdict(rung.script, row["room_gb"], room, gpu.bfloat16, options.margin)
            several = several_gpus(rung.script)
            if told == "fits":
                first.setdefault(f"{model}{SEVERAL * several}", rung.script)
            kind = " (variant)" * rung.variant + ", on each of four" * several
            lines.append(f"  {row['room_gb']:6.2f} GB  {told:14s}  {stem(rung.script)}{kind}")
    print(f"The first that fits {gpu.name} ({room:.2f} GB beside CUDA's context):")
    for what in (f"{model}{some}" for model in FAMILIES for some in ("", SEVERAL)):
        if what in first:
            print(f"  {what}: python {first[what]}")
    if not first:
        print("  none")
    print(MEANING)
    print("\n".join(lines))
    return 0 if first else 1
