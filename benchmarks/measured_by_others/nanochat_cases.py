"""nanochat's training report: the base model of its "speedrun".

Of the reports in public repositories, those whose settings are the defaults: three runs on 8 H100,
of three commits and two versions of PyTorch, say 75,422.02 MiB, one of an older commit 75,424.17.
The first is taken. Their checkouts were changed in some way, or a fork's.
"""

from benchmarks.measured_by_others.case import Case, Table


def cases() -> list[Case]:
    """20 layers, 32 texts of 2,048 words of 65,536 at a time."""
    table = Table(
        {
            "project": "nanochat",
            "source": "karpathy/nanochat, scripts/base_train.py, commit ec11d39; the report of a "
            "run of October 2025",
            "conditions": "H100, PyTorch 2.8.0, autocast to bfloat16, compiled, AdamW and Muon in "
            "shares; max_memory_allocated()",
            "note": "predicted with rms_norm in float32 under autocast, as PyTorch 2.14 has it, "
            "and 2.8 had not",
            "quantity": "allocated", "unit_name": "MiB", "unit": 2**20, "gpu": "H100",
        }
    )  # fmt: skip
    table.add(
        "depth 20, batch 32, 8 GPUs", 75_422.02, "nanochat_steps.train",
        {"depth": 20, "batch": 32}, gpus=8,
    )  # fmt: skip
    return table.cases
