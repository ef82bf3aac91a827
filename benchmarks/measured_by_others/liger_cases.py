"""Liger's figures of operators in plain PyTorch, from its table of all benchmarks.

Of each kernel: the newest measurement whose provider is "huggingface" or "torch", of forward and
backward together ("full"), at the largest size; of several settings the first. Left out are
figures below 1,000 MB, and the losses of preferences and distillation, mixtures of experts and
neighborhood attention, whose plain counterparts are long classes of Liger's tests.
"""

from benchmarks.measured_by_others.case import Case, Table

GPUS = {"A100": "A100-80", "B200": "B200", "H100": "H100", "RTX 3090": "RTX-3090",
        "RTX 4090": "RTX-4090"}  # fmt: skip
LLAMA = {"width": 4096, "words": 128_256}
HEADS = {"tokens": 16_384, "width": 8192, "heads": 32, "key_heads": 8}
LEFT = (
    "12 GiB more than its layers hold, which all rows of this kernel have, also those of 1,024 "
    "words: something of the rows before is still alive"
)
TILED = {"batch": 2, "tokens": 16_384, "width": 2048, "inner": 4096}


def cases() -> list[Case]:
    """Norms, losses, feed-forward layers, rotary embeddings."""
    table = Table(
        {
            "project": "Liger",
            "source": "linkedin/Liger-Kernel, benchmark/data/all_benchmark_data.csv, commit "
            "ead96b6, and the script of the row",
            "conditions": "", "quantity": "allocated", "unit_name": "MiB", "unit": 2**20,
        }
    )  # fmt: skip
    for what, gpu, month, measured, kernel, sizes in (
        ("cross_entropy", "A100", "2024-09", 40_960.125, "", {"tokens": 16_384, "words": 131_072}),
        ("embedding", "A100", "2024-09", 13_925.6875, "",
         {"batch": 32, "tokens": 512, "width": 768, "words": 131_072}),
        ("fused_add_rms_norm", "H100", "2026-04", 3328.625, "", {"rows": 2048, "width": 32_768}),
        ("fused_linear_cross_entropy", "A100", "2024-11", 27_582.5, "", LLAMA | {"tokens": 32_768}),
        ("fused_linear_jsd", "H100", "2024-10", 56_368.015625, "", LLAMA | {"tokens": 8192}),
        ("geglu", "A100", "2024-09", 12_212.25, "gated",
         {"batch": 8, "tokens": 8192, "width": 4096, "inner": 11_008,
          "activation": "gelu_pytorch_tanh"}),
        ("group_norm", "B200", "2026-02", 2564.0625, "",
         {"batch": 128, "channels": 2048, "width": 512, "together": 4}),
        ("jsd", "B200", "2026-05", 52_104.0, "", {"tokens": 8192, "words": 128_256}),
        ("kl_div", "H100", "2024-09", 57_344.0, "", {"tokens": 16_384, "words": 131_072}),
        ("layer_norm", "H100", "2025-07", 1280.53125, "", {"rows": 4096, "width": 16_384}),
        ("llama4_rope", "H100", "2025-08", 2288.12548828125, "", HEADS),
        ("megatron_swiglu", "H100", "2026-07", 3584.0009765625, "",
         {"tokens": 2048, "batch": 4, "inner": 32_768}),
        ("rms_norm", "A100", "2024-09", 2560.3828125, "", {"rows": 2048, "width": 32_768}),
        ("rope", "A100", "2024-09", 1816.25048828125, "", HEADS),
        ("sparsemax", "RTX 3090", "2025-04", 2816.00048828125, "", {"rows": 2048, "width": 32_768}),
        ("swiglu", "A100", "2024-09", 6372.25, "gated",
         {"batch": 4, "tokens": 8192, "width": 4096, "inner": 11_008, "activation": "silu"}),
        ("tiled_geglu", "RTX 4090", "2025-11", 2416.25, "gated",
         TILED | {"activation": "gelu_pytorch_tanh"}),
        ("tiled_swiglu", "RTX 4090", "2025-11", 2416.25, "gated", TILED | {"activation": "silu"}),
        ("tvd", "H100", "2026-03", 65_536.0, "", {"tokens": 16_384, "words": 131_072}),
    ):  # fmt: skip
        own = {"counted": False, "note": LEFT} if what == "embedding" else {}
        table.add(
            what, measured, "liger_steps.measure", {"kernel": kernel or what} | sizes,
            gpu=GPUS[gpu], conditions=f"{gpu}, {month}; max_memory_allocated()",
            **own,
        )  # fmt: skip
    return table.cases
