"""The matrix in docs/combining.md, and what is said about each cell that does not simply work."""

from pathlib import Path

from ladder.pages import markers
from ladder.rows import recorded

SIGNS = {"works": "✓", "works with care": "care", "silently wrong": "**✗**", "refused": "–"}
TITLES = {
    "silently wrong": "Silently wrong",
    "works with care": "Works with care",
    "refused": "Refused",
}
NOTES = {
    ("accumulation", "in backward"): "Each micro-batch's gradient is used at once: as many small "
    "steps as micro-batches. Choose one; 11 to 13 need no accumulation.",
    ("in backward", "clipping"): "After the backward pass no gradient is left, so that the norm is "
    "0 and nothing is clipped. Clip each parameter's own gradient in the hook (which is another "
    "training), or do without the hook.",
    ("in backward", "scaler"): "Each parameter is checked for overflow and the scale changed by "
    "itself, in the middle of the backward pass: some parameters take a step that the others skip, "
    "with gradients of another scale. Use bfloat16, which needs no scaler.",
    ("in backward", "FSDP1"): "The hooks sit on parameters that FSDP1 replaces: they never run, "
    "and nothing is trained. Use FSDP2.",
    ("in backward", "FSDP1 offload"): "As with FSDP1: nothing is trained. Use FSDP2.",
    ("half", "8 bits"): "Updates smaller than bfloat16's precision are rounded away, most of the "
    "training with them. Pass `bf16_stochastic_round=True`, as 14 does.",
    ("accumulation", "clipping"): "Clipping after each micro-batch is another training. Clip "
    "once, before the step.",
    ("accumulation", "schedule"): "A schedule that moves with each micro-batch ends too early. "
    "Move it once a step, and count steps in `T_max`.",
    ("accumulation", "FSDP1 offload"): "FSDP1 replaces the gradient that lies on the host, as its "
    "documentation says (which the CPU's stand-in imitates). Accumulate within "
    "`no_sync()` (Fabric: `no_backward_sync`), which keeps whole gradients on the GPU, or use "
    "FSDP2.",
    ("clipping", "scaler"): "The scaled gradients are clipped. Call `scaler.unscale_(optimizer)` "
    "first (Fabric's `clip_gradients` does).",
    ("clipping", "FSDP1"): "Each rank takes the norm of its own part. Call the model's "
    "`clip_grad_norm_` (Fabric's `clip_gradients` does).",
    ("clipping", "FSDP1 offload"): "As with FSDP1.",
    ("scaler", "schedule"): "The schedule also moves when the scaler skips a step, and ends early. "
    "With few skips that is harmless; to be exact, move it only if the scale did not fall.",
    ("scaler", "FSDP1"): "A rank that sees no overflow takes the step that the other skips. Use "
    "`ShardedGradScaler` (Fabric does).",
    ("scaler", "FSDP1 offload"): "As with FSDP1.",
    ("half", "Adafactor"): "PyTorch's smallest gradient for it, `eps[0]`, is by default the "
    "precision of the parameter's type, 0.0078 in bfloat16: smaller gradients take smaller steps. "
    "06-2 makes up for it by its learning rate; or pass `eps=(1e-7, 1e-3)`.",
    ("8 bits", "Adafactor"): "Two optimizers for the same parameters: choose one.",
    ("clipping", "optimizer offload"): "The gradients that are clipped on the GPU are not used any "
    "more: their copies are on the way to the host. Do without one of the two.",
    ("FSDP1", "Adafactor"): "FSDP1 makes one long parameter of each unit, whose parts have no rows "
    "and columns: Adafactor then keeps a whole second moment, and trains otherwise.",
    ("FSDP1 offload", "Adafactor"): "As with FSDP1.",
    ("FSDP2", "Adafactor"): "PyTorch's Adafactor takes a norm in place, which sharded parameters "
    "(DTensor) do not support.",
    ("FSDP2 offload", "Adafactor"): "As with FSDP2.",
    ("FSDP1", "optimizer offload"): "As with the optimizer in backward: hooks sit on parameters "
    "that FSDP1 replaces, and large parameters are not trained. FSDP has an offload of its own.",
    ("FSDP1 offload", "optimizer offload"): "As with FSDP1.",
    ("FSDP2", "QLoRA"): "The dequantized weight is whole on every GPU, the adapter's BA is "
    "sharded, and PyTorch does not add the two. Keep the adapters out of the sharding.",
    ("FSDP2 offload", "QLoRA"): "As with FSDP2.",
    ("half", "scaler"): "A GradScaler does not take float16 gradients; with bfloat16 there is "
    "nothing to scale.",
    ("FSDP1", "FSDP2"): "Two ways to shard the same parameters: choose one.",
    ("FSDP1", "FSDP2 offload"): "As FSDP1 with FSDP2.",
    ("FSDP2", "FSDP1 offload"): "As FSDP1 with FSDP2.",
    ("FSDP1 offload", "FSDP2 offload"): "As FSDP1 with FSDP2.",
    ("in backward", "DDP"): "The hook takes each GPU's own gradient, before DDP has averaged it, "
    "and the copies drift apart. Take the step after the backward pass, or use FSDP2, which "
    "averages first.",
    ("in backward", "ZeRO-1"): "As with DDP.",
    ("optimizer offload", "DDP"): "As with the optimizer in backward: the gradients go to the host "
    "before DDP has averaged them.",
    ("optimizer offload", "ZeRO-1"): "Optimizer states are either on the host or shared out among "
    "the GPUs: choose one.",
    ("FSDP1", "DDP"): "DDP keeps the whole model on each GPU, and FSDP a part of it: choose one. "
    "(`HYBRID_SHARD`, or a mesh of two dimensions, shards within a machine and copies among them.)",
    ("FSDP1", "ZeRO-1"): "As with DDP; FSDP shards the optimizer states, too.",
    ("FSDP2", "DDP"): "As FSDP1 with DDP.",
    ("FSDP2", "ZeRO-1"): "As FSDP1 with ZeRO-1.",
    ("FSDP1 offload", "DDP"): "As FSDP1 with DDP.",
    ("FSDP1 offload", "ZeRO-1"): "As FSDP1 with ZeRO-1.",
    ("FSDP2 offload", "DDP"): "As FSDP1 with DDP.",
    ("FSDP2 offload", "ZeRO-1"): "As FSDP1 with ZeRO-1.",
    ("half", "bf16 states"): "Updates smaller than bfloat16's precision are rounded away, as with "
    "8-bit AdamW. Keep the parameters in float32, as 02-3 does, or take 14's stochastic rounding.",
    ("8 bits", "bf16 states"): "Two optimizers for the same parameters: choose one.",
    ("Adafactor", "bf16 states"): "Two optimizers for the same parameters: choose one.",
    ("optimizer offload", "bf16 states"): "torchao's optimizer makes its states itself, on the "
    "host.",
}  # fmt: skip


def sections(techniques: dict[str, str], cells: list[dict]) -> list[str]:
    """A list of pairs for each verdict, silently wrong first.

    Raises KeyError if a note is missing.
    """
    parts = []
    for verdict, title in TITLES.items():
        lines = [f"## {title}\n"]
        for cell in cells:
            if cell["verdict"] == verdict:
                pair = tuple(cell["pair"])
                names = " × ".join(techniques[name] for name in pair)
                lines.append(f"- **{names}.** {NOTES[pair]}")
        parts.append("\n".join(lines))
    return parts


def matrix(techniques: dict[str, str], cells: list[dict]) -> str:
    """The table with the verdict on every pair of techniques."""
    verdicts = {tuple(cell["pair"]): cell["verdict"] for cell in cells}
    numbers = range(1, len(techniques) + 1)
    lines = [
        "## The matrix\n",
        "✓ works · care: works with care · **✗** silently wrong · – refused\n",
        "| | | " + " | ".join(map(str, numbers)) + " |",
        "| --: | --- |" + " :-: |" * len(techniques),
    ]
    for number, (row, title) in enumerate(techniques.items(), 1):
        cells_of_row = [
            SIGNS[verdicts.get((row, column)) or verdicts[column, row]] if row != column else ""
            for column in techniques
        ]
        lines.append(f"| {number} | {title} | " + " | ".join(cells_of_row) + " |")
    return "\n".join(lines)


def losses(found: dict[str, dict[str, float]]) -> str:
    """Predicted GB of a model's head and loss, computed in one piece and in chunks."""
    chunks = list(next(iter(found.values())))
    lines = [
        f"| head, loss and their gradients alone | {' | '.join(chunks)} |",
        "| --- |" + " --: |" * len(chunks),
    ]
    for title, row in found.items():
        lines.append(f"| {title} | " + " | ".join(f"{size:.3f} GB" for size in row.values()) + " |")
    return "\n".join(lines)


def products(found: dict[str, int]) -> str:
    """Bytes that a layer keeps for its backward pass, for each precision of its matrix products."""
    lines = ["| products in | kept by the layer |", "| --- | --: |"]
    lines += [f"| {name} | {size / 1e6:.2f} MB |" for name, size in found.items()]
    return "\n".join(lines)


def fill(page: str, results: Path) -> str:
    """The text of docs/combining.md with its generated parts.

    Raises ValueError if a marker is missing.
    """
    tried = recorded(results / "combining.json")
    found = recorded(results / "without_effect.json")
    table = matrix(tried["techniques"], tried["pairs"])
    parts = {
        "pairs": "\n\n".join([*sections(tried["techniques"], tried["pairs"]), table]),
        "losses": losses(found["losses"]),
        "products": products(found["products"]),
    }
    for name, text in parts.items():
        page = markers.put(page, name, text)
    return page
