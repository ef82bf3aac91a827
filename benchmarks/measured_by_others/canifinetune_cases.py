"""can-i-finetune-this's figures on an RTX 4080: all twelve runs of its repository.

The highest figures of the whole run are counted. Those after loading, after the first forward and
after the first backward pass are shown beside them: they say at which stage an error arises.
"""

from benchmarks.measured_by_others.case import Case, Table

QWEN = "Qwen/Qwen2.5-{}-Instruct"
STAGES = ("load", "forward", "backward", "run")
AFTER = {
    "load": "after loading",
    "forward": "after the first forward pass",
    "backward": "after the first backward pass",
}
# Model, in 4 bits, tokens, batch, rank, steps, checkpointing; then what was allocated and reserved
# at most by the end of each of STAGES, in GiB.
RUNS = (
    (QWEN.format("0.5B"), False, 1024, 1, 16, 3, True,
     ((0.9279, 0.9688), (2.4403, 2.6211), (3.0186, 3.209), (3.0324, 3.7949))),
    (QWEN.format("0.5B"), True, 1024, 1, 16, 3, True,
     ((0.9339, 0.957), (1.946, 2.1309), (3.1027, 3.2988), (3.1158, 3.3027))),
    (QWEN.format("0.5B"), True, 2048, 1, 16, 3, True,
     ((0.9339, 0.957), (3.1966, 3.9492), (5.51, 6.2773), (5.522, 6.2812))),
    (QWEN.format("1.5B"), True, 1024, 1, 16, 3, True,
     ((1.9436, 1.9902), (2.8706, 3.1719), (4.0249, 4.3477), (4.0413, 4.3574))),
    (QWEN.format("1.5B"), True, 1024, 1, 16, 3, False,
     ((1.9436, 1.9902), (8.1709, 8.3262), (9.3251, 9.5), (9.3413, 9.5527))),
    (QWEN.format("1.5B"), True, 1024, 2, 16, 2, True,
     ((1.9436, 1.9902), (4.2066, 4.5352), (6.5152, 6.873), (6.5311, 6.8809))),
    (QWEN.format("1.5B"), True, 2048, 1, 16, 3, True,
     ((1.9436, 1.9902), (4.2076, 4.752), (6.5161, 7.0898), (6.5324, 7.0977))),
    (QWEN.format("1.5B"), True, 4096, 1, 16, 2, True,
     ((1.9436, 1.9902), (6.8774, 8.8945), (11.4907, 13.5488), (11.5068, 13.5566))),
    (QWEN.format("1.5B"), True, 512, 1, 16, 3, True,
     ((1.9436, 1.9902), (2.2013, 2.2988), (2.778, 2.8984), (2.7943, 2.9062))),
    (QWEN.format("3B"), True, 1024, 1, 16, 2, True,
     ((3.0833, 3.1426), (3.9976, 4.3359), (5.15, 5.5234), (5.1719, 5.5371))),
    (QWEN.format("7B"), True, 1024, 1, 16, 2, True,
     ((8.2261, 9.3965), (8.8278, 9.4375), (9.9743, 10.6348), (10.0023, 11.2324))),
    ("sshleifer/tiny-gpt2", False, 128, 1, 8, 3, True,
     ((0.0002, 0.002), (0.0681, 0.0859), (0.092, 0.1113), (0.1, 0.1367))),
)  # fmt: skip


def cases() -> list[Case]:
    """LoRA and QLoRA of Qwen 2.5 and of a tiny GPT-2."""
    table = Table(
        {
            "project": "can-i-finetune-this",
            "source": "DaoyuanLi2816/can-i-finetune-this, benchmarks/results/, commit 053ce9e",
            "conditions": "RTX 4080, Windows, PyTorch 2.6.0, bfloat16, paged AdamW in 8 bits; "
            "max_memory_allocated() and max_memory_reserved()",
            "quantity": "", "unit_name": "GiB", "unit": 2**30, "gpu": "RTX-4080",
        }
    )  # fmt: skip
    for name, quantized, tokens, batch, rank, steps, checkpointing, peaks in RUNS:
        what = f"{name.partition('/')[2]}, {'QLoRA' if quantized else 'LoRA'}, batch {batch}, "
        what += f"{tokens:,} tokens{'' if checkpointing else ', without checkpointing'}"
        shared = {
            "name": name, "tokens": tokens, "batch": batch, "rank": rank, "steps": steps,
            "quantized": quantized, "checkpointing": checkpointing,
        }  # fmt: skip
        for stage, (allocated, reserved) in zip(STAGES, peaks, strict=True):
            if stage == "load" and allocated < 0.01:  # of which four digits say nothing
                continue
            name = f"{what}, {AFTER[stage]}" if stage in AFTER else what
            table.add_both(
                name, allocated, reserved, "canifinetune_steps.finetune",
                shared | {"until": stage}, counted=stage not in AFTER,
            )  # fmt: skip
    return table.cases
