"""torchtitan's figures of December 2024: the rows with FSDP alone, compiled or not.

The compiled rows were chosen in a second round.
"""

from benchmarks.measured_by_others.case import Case, Table


def cases() -> list[Case]:
    """Llama 3.1 8B on 8 and on 128 GPUs (its tables 1 and 3)."""
    table = Table(
        {
            "project": "torchtitan",
            "source": "pytorch/torchtitan, benchmarks/llama3_h100_202412_torchtitan.md, commit "
            "31a17bf; torchtitan at commit 9dec370",
            "conditions": "H100, PyTorch of 23 December 2024, Llama 3.1 8B, FSDP2 in bfloat16, "
            "batch 2 of 8,192 tokens, selective checkpointing; max_memory_reserved()",
            "quantity": "reserved", "unit_name": "GiB", "unit": 2**30, "gpu": "H100",
        }
    )  # fmt: skip
    for gpus, measured in ((8, 82.4), (128, 67.0)):
        table.add(f"{gpus} GPUs", measured, "torchtitan_steps.train", {"batch": 2}, gpus=gpus)
    for gpus, measured in ((8, 77.0), (128, 62.0)):
        table.add(
            f"{gpus} GPUs, compiled", measured, "torchtitan_steps.train",
            {"batch": 2, "compiled": True}, gpus=gpus,
        )  # fmt: skip
    return table.cases
