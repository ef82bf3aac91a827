"""Which scripts of the ladder fit a GPU: an answer at once, from recorded predictions."""

from ladder.fitting import RESULTS, suggested, verdict
from ladder.rows import by_script
from ladder.tables import FAMILIES, stem
from prediction.options import Options


def show(options: Options) -> int:
    """Print for each model the first script that fits, then each script's verdict; exit status."""
    gpu, rows = options.gpu, by_script(RESULTS / "predicted.json")
    room = (gpu.memory - gpu.context) / 1e9
    first, lines = {}, []
    for model in FAMILIES:
        lines.append(f"\n{model}: needed at least, reserved")
        for rung in suggested(model):
            row = rows.get(rung.script, {})
            if "room_gb" not in row:
                continue
            told = verdict(rung.script, row["room_gb"], room, gpu.bfloat16, options.margin)
            several = bool(row["cost"] and row["cost"]["between_gpus_gb_per_step"])
            kind = " (variant)" * rung.variant + ", on each of 4 GPUs" * several
            if told == "fits":
                first.setdefault(model, f"python {rung.script}{', on 4 GPUs' * several}")
            lines.append(f"  {row['room_gb']:6.2f} GB  {told:14s}  {stem(rung.script)}{kind}")
    print(f"The first that fits {gpu.name} ({room:.2f} GB beside CUDA's context):")
    for model in FAMILIES:
        print(f"  {model}: {first.get(model, 'none')}")
    print("\n".join(lines))
    print("\nBy recorded predictions for an A100. For this GPU's own, name a script.")
    return 0 if first else 1
