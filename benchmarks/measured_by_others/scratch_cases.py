"""LLMs-from-scratch's table of speed-ups: each figure to which a change of memory belongs.

Left out are the three that repeat the one before (TF32, fused AdamW, pinned memory): they are not
figures of their own. Four GPUs have a figure each; the repository prints the first one's.
"""

from benchmarks.measured_by_others.case import Case, Table

FLASH = {"attention": "flash", "classes": True, "half": True}
COMPILED = FLASH | {"compiled": True}
NICE = COMPILED | {"words": 50_304}
ROWS = (
    ("as in the book", 26.2617, {"attention": "mask kept", "fused": False}),
    ("causal mask made anew, fused AdamW", 26.2422, {}),
    ("bfloat16", 13.7871, {"half": True}),
    ("PyTorch's LayerNorm and GELU", 11.5645, {"half": True, "classes": True}),
    ("FlashAttention", 5.9004, FLASH),
    ("compiled", 6.1875, COMPILED),
    ("compiled, 50,304 words", 5.8906, NICE),
    ("compiled, 50,304 words, batch 32", 22.5078, NICE | {"batch": 32}),
    ("the same on 4 GPUs, DDP", 22.7969, NICE | {"batch": 32, "parallel": True}),
)


def cases() -> list[Case]:
    """A GPT-2 of 124 million parameters, 1,024 tokens, batch 8 where nothing else is said."""
    table = Table(
        {
            "project": "LLMs-from-scratch",
            "source": "rasbt/LLMs-from-scratch, ch05/10_llm-training-speed/README.md, commit "
            "0636158",
            "conditions": "A100, PyTorch 2.6, GPT-2 with 124 million parameters, 1,024 tokens; "
            "memory_reserved() at the end",
            "quantity": "reserved", "unit_name": "GiB", "unit": 2**30, "gpu": "A100-40",
        }
    )  # fmt: skip
    for what, measured, arguments in ROWS:
        several = {"gpus": 4} if arguments.get("parallel") else {}
        table.add(what, measured, "scratch_steps.train", arguments, **several)
    return table.cases
