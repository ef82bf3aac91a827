"""Which of the ladder's techniques would help a script, judged by what fills its memory."""

# By kind of memory: the share of the allocated peak from which it is worth naming, and what makes
# it less, with the rung's page. What is said holds by construction, without another prediction.
TECHNIQUES = {
    "activations": (
        0.3,
        [
            ("checkpointing keeps each block's input only", "11_act-checkp"),
            ("micro-batches of half the size halve them", "05_gradient-accum"),
            ("they may wait on the host", "14-3_activation-offload"),
        ],
    ),
    "optimizer": (
        0.2,
        [
            ("8-bit optimizer states take a quarter of float32 ones", "14_adamw-8bit"),
            ("Adafactor has next to no optimizer states", "06-2_adafactor"),
            ("they may lie on the host", "14-4_optimizer-offload"),
        ],
    ),
    "gradients": (
        0.2,
        [
            ("used one by one in the backward pass, they never add up", "12_optimizer-in-backward"),
            ("with LoRA, frozen weights have none, and no optimizer states", "15_lora"),
        ],
    ),
    "parameters": (
        0.3,
        [
            ("bfloat16 takes half of float32", "03_bfloat16"),
            ("frozen, they take 4 bits each", "16_qlora"),
            ("several GPUs share them", "08b_fsdp-custom"),
        ],
    ),
}


def lines(row: dict) -> list[str]:
    """What would help the script of this prediction, for the largest kind of memory first."""
    kinds = sorted(row["breakdown_gb"].items(), key=lambda item: -item[1])
    found = []
    for kind, size in kinds:
        least, techniques = TECHNIQUES.get(kind, (2.0, []))
        share = size / row["allocated_gb"]
        if share >= least:
            found.append(f"{kind} are {share:.0%} of the allocated peak:")
            found += [f"  {effect} (docs/ladder/{page}.md)" for effect, page in techniques]
    return found
