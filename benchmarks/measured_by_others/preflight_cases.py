"""torch-preflight's figures on a T4: all eight runs of its measured_peaks.json, both counters."""

from benchmarks.measured_by_others.case import Case, Table


def cases() -> list[Case]:
    """Three language models and ResNet-50, each with two batches."""
    table = Table(
        {
            "project": "torch-preflight",
            "source": "highwaterlabs/torch-preflight, tests/calibration/measured_peaks.json, "
            "commit 774b839, and measure_cuda.py beside it",
            "conditions": "T4, PyTorch 2.11.0, autocast, AdamW; max_memory_allocated() and "
            "max_memory_reserved()",
            "quantity": "", "unit_name": "bytes", "unit": 1, "gpu": "T4",
        }
    )  # fmt: skip
    for name, batch, tokens, allocated, reserved in (
        ("gpt2", 4, 128, 2_705_153_536, 3_042_967_552),
        ("gpt2", 8, 256, 5_736_883_712, 6_092_226_560),
        ("distilbert-base-uncased", 4, 128, 1_354_818_048, 1_501_560_832),
        ("distilbert-base-uncased", 8, 256, 1_757_328_384, 1_954_545_664),
        ("bert-base-uncased", 4, 128, 2_209_738_240, 2_483_027_968),
        ("bert-base-uncased", 8, 256, 3_185_408_000, 3_491_758_080),
    ):
        given = {"name": name, "batch": batch, "tokens": tokens, "causal": name == "gpt2"}
        table.add_both(f"{name}, batch {batch}, {tokens} tokens", allocated, reserved,
                       "preflight_steps.language_model", given)  # fmt: skip
    for batch, allocated, reserved in (
        (16, 1_119_203_840, 1_195_376_640),
        (32, 1_839_903_232, 2_000_683_008),
    ):
        given = {"name": "resnet50", "batch": batch, "side": 224}
        why = "PyTorch 2.11 brings cuDNN 9.19, and the one that answers here is newer"
        table.add_both(f"resnet50, batch {batch}, 224 pixels", allocated, reserved,
                       "preflight_steps.classifier", given, explanation=why)  # fmt: skip
    return table.cases
