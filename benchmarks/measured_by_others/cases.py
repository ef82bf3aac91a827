"""All figures: those of the older sources, and what the modules beside this one add to them.

All were chosen before any was predicted, and each that was chosen is here.
"""

from benchmarks.measured_by_others import (
    canifinetune_cases,
    liger_cases,
    nanochat_cases,
    peft_cases,
    preflight_cases,
    scratch_cases,
    torchtitan_cases,
    vramexp_cases,
)
from benchmarks.measured_by_others.case import Case, Table


def _litgpt_2023() -> list[Case]:
    table = Table(
        {
            "project": "litgpt",
            "source": "Lightning-AI/litgpt, tutorials/resource-tables.md, commit 4839345",
            "conditions": "A100 40 GB, PyTorch 2.1.0, bfloat16, AdamW; max_memory_allocated()/1e9",
            "quantity": "allocated", "gpu": "A100-40", "as_of": 2023,
        }
    )  # fmt: skip
    # the longest training example in tokens, by the same page
    tokens = {
        "phi-1_5": 1044, "stablelm-base-alpha-3b": 1034, "Llama-2-7b-hf": 1304,
        "Llama-2-13b-hf": 1304,
    }  # fmt: skip
    for name, batch, method, measured in (
        ("phi-1_5", 1, "lora", 4.82),
        ("phi-1_5", 2, "lora", 6.76),
        ("phi-1_5", 4, "lora", 10.68),
        ("stablelm-base-alpha-3b", 1, "lora", 9.69),
        ("stablelm-base-alpha-3b", 2, "lora", 12.10),
        ("stablelm-base-alpha-3b", 4, "lora", 16.92),
        ("Llama-2-7b-hf", 1, "lora", 21.30),
        ("Llama-2-7b-hf", 2, "lora", 29.07),
        ("Llama-2-13b-hf", 1, "lora", 38.12),
        ("stablelm-base-alpha-3b", 1, "adapter", 9.10),
        ("Llama-2-7b-hf", 1, "adapter", 19.98),
        ("stablelm-base-alpha-3b", 1, "adapter_v2", 10.71),
        ("Llama-2-7b-hf", 1, "adapter_v2", 25.51),
    ):
        lora = {"lora_r": 8, "lora_dropout": 0.05, "lora_query": True, "lora_value": True}
        table.add(
            f"{name}, {method}, micro-batch {batch}, {tokens[name]:,} tokens", measured,
            "litgpt_steps.finetune",
            {"name": name, "tokens": tokens[name], "micro_batch": batch, "method": method}
            | ({"lora": lora} if method == "lora" else {}),
        )  # fmt: skip
    return table.cases


def _litgpt_configs() -> list[Case]:
    table = Table(
        {
            "project": "litgpt",
            "source": "Lightning-AI/litgpt, config_hub/finetune/README.md, commit 03ffc55, and the "
            "config file of the row",
            "conditions": "A10G, bfloat16, AdamW, at most 512 tokens; max_memory_allocated()/1e9",
            "quantity": "allocated", "gpu": "A10G",
        }
    )  # fmt: skip
    some, every = ("query", "value"), ("query", "key", "value", "projection", "mlp", "head")
    for name, config, batch, measured, rank, where, dropout in (
        ("tiny-llama-1.1b", "tiny-llama/full", 4, 14.10, 0, (), 0),
        ("tiny-llama-1.1b", "tiny-llama/lora", 8, 13.50, 32, every, 0.05),
        ("phi-2", "phi-2/lora", 4, 13.98, 8, every, 0.05),
        ("Llama-2-7b-hf", "llama-2-7b/lora", 2, 19.77, 32, some, 0.05),
        ("Mistral-7B-v0.1", "mistral-7b/lora", 2, 20.66, 32, some, 0.05),
        ("Gemma-2b", "gemma-2b/lora", 2, 12.62, 8, every, 0.1),
        ("stablelm-base-alpha-3b", "stablelm-base-alpha-3b/lora", 1, 8.58, 32, some, 0.05),
        ("falcon-7b", "falcon-7b/lora", 1, 16.69, 32, some, 0.05),
        ("Llama-3-8B", "llama-3-8b/lora", 1, 19.73, 32, some, 0.05),
        ("Llama-3.2-1B", "llama-3.2-1B/full", 4, 8.70, 0, (), 0),
        ("Llama-3.2-1B", "llama-3.2-1B/lora", 1, 4.49, 32, some, 0.05),
        ("Llama-3.2-3B", "llama-3.2-3B/full", 4, 16.51, 0, (), 0),
        ("Llama-3.2-3B", "llama-3.2-3B/lora", 1, 9.67, 32, some, 0.05),
    ):
        lora = {"lora_r": rank, "lora_dropout": dropout} | {f"lora_{part}": True for part in where}
        method = "lora" if rank else "full"
        less = "measured is less than parameters, gradients and AdamW's states in bfloat16 alone"
        note = {"explanation": less} if config in ("llama-3.2-1B/full", "llama-3.2-3B/full") else {}
        table.add(
            f"{config}.yaml, micro-batch {batch}", measured, "litgpt_steps.finetune",
            {"name": name, "tokens": 512, "micro_batch": batch, "method": method}
            | ({"lora": lora} if rank else {}), **note,
        )  # fmt: skip
    return table.cases


def _torchao() -> list[Case]:
    source = "pytorch/ao, torchao/optim/README.md, commit 072500a, and its benchmark_low_bit_adam"
    giant = Table(
        {
            "project": "torchao",
            "source": source,
            "conditions": "RTX 4070 Ti SUPER, PyTorch 2.4, ViT-giant (DINOv2), 224 pixels, eager, "
            "activation checkpointing; max_memory_allocated()/1e9",
            "quantity": "allocated",
            "gpu": "RTX-4070-Ti-SUPER",
        }
    )
    model = {"name": "vit_giant_patch14_dinov2", "batch": 32, "checkpointing": True}
    for what, measured, own in (
        ("bfloat16, AdamW", 9.82, {}),
        ("bfloat16, AdamW offloaded", 5.24, {"offload": True}),
        ("bfloat16, AdamW and gradients offloaded", 4.01,
         {"offload": True, "offload_gradients": True}),
        ("autocast, AdamW offloaded", 9.90, {"offload": True, "amp": True}),
    ):  # fmt: skip
        giant.add(what + ", batch 32", measured, "timm_steps.finetune", model | own)
    huge = Table(
        giant.shared
        | {
            "conditions": "RTX 4070 Ti SUPER, PyTorch 2.4, ViT-H/14 at 224 pixels, autocast to "
            "bfloat16, compiled; max_memory_allocated()/1e9",
        }
    )
    model = {"name": "vit_huge_patch14_224", "batch": 8, "amp": True, "compiled": True}
    for optimizer, measured in (
        ("AdamW", 12.23), ("AdamW8bit", 8.33), ("AdamW4bit", 7.72), ("AdamWFp8", 8.33),
    ):  # fmt: skip
        huge.add(
            f"{optimizer}, batch 8", measured, "timm_steps.finetune",
            model | {"optimizer": optimizer},
        )  # fmt: skip
    return giant.cases + huge.cases


def _pytorch_tutorial() -> list[Case]:
    table = Table(
        {
            "project": "PyTorch's tutorials",
            "source": "pytorch/tutorials, intermediate_source/"
            "optimizer_step_in_backward_tutorial.py, commit 2a48870",
            "conditions": "PyTorch 2.1, ViT-L/16, float32, one image; from a memory snapshot",
            "quantity": "allocated",  # Adam's lists were today's by then (pytorch issue 97712)
            "note": "published as “about”, with one digit",
        }
    )  # fmt: skip
    table.add("Adam after the backward pass", 6, "torchvision_steps.after_backward", {})
    table.add("Adam in the backward pass", 4, "torchvision_steps.in_backward", {})
    return table.cases


def _hugging_face_guide() -> list[Case]:
    table = Table(
        {
            "project": "Hugging Face's guide",
            "source": "huggingface/transformers, docs/source/en/perf_train_gpu_one.mdx, "
            "commit 0016acf",
            "conditions": "V100, January 2022, BERT-large, 512 tokens; nvidia-smi after training, "
            "less the context that the page measured",
            "quantity": "reserved", "gpu": "V100-16", "unit_name": "MiB", "unit": 2**20,
            "besides": 1343,
        }
    )  # fmt: skip
    kept = {
        "note": "with a softmax that keeps its input, as before PyTorch's pull request 66018 of "
        "October 2021; without, the first predictions were 7 to 16 % too low"
    }
    small = {"batch": 1, "accumulate": 4}
    for what, measured, arguments in (
        ("batch 4", 14_949, {"batch": 4}),
        ("batch 1, 4 accumulated", 8681, small),
        ("the same, checkpointing", 6775, small | {"checkpointing": True}),
        ("batch 4, fp16", 13_939, {"batch": 4, "fp16": True}),
        ("batch 1, 4 accumulated, checkpointing, fp16", 7275,
         small | {"checkpointing": True, "fp16": True}),
        ("batch 4, Adafactor", 12_295, {"batch": 4, "adafactor": True}),
        ("batch 1, 4 accumulated, checkpointing, fp16, Adafactor", 4847,
         small | {"checkpointing": True, "fp16": True, "adafactor": True}),
    ):  # fmt: skip
        own = {} if "checkpointing" in arguments else kept
        table.add(what, measured, "bert_steps.finetune", arguments, **own)
    return table.cases


CASES = [
    *_litgpt_2023(), *_litgpt_configs(), *_torchao(), *_pytorch_tutorial(),
    *_hugging_face_guide(), *peft_cases.metamath(), *peft_cases.image_generation(),
    *preflight_cases.cases(), *canifinetune_cases.cases(), *scratch_cases.cases(),
    *torchtitan_cases.cases(), *vramexp_cases.cases(), *liger_cases.cases(),
    *nanochat_cases.cases(),
]  # fmt: skip
