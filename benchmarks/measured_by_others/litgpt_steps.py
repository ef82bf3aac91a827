"""litgpt's finetuning, by its own models on random tokens."""

import importlib

import torch
from lightning import Fabric


def finetune(
    name: str, tokens: int, micro_batch: int, method: str, lora: dict | None = None
) -> None:
    """Three optimizer steps of two micro-batches each.

    `method`: "full", "lora", "adapter" or "adapter_v2", as litgpt's finetuning scripts are called;
    `lora`: the settings of `litgpt.lora.Config` that differ from its defaults.
    """
    from litgpt.utils import chunked_cross_entropy

    module = importlib.import_module("litgpt.model" if method == "full" else f"litgpt.{method}")
    config = module.Config.from_name(name, **(lora or {}))
    fabric = Fabric(accelerator="cuda", devices=1, precision="bf16-true")
    with fabric.init_module(empty_init=False):
        model = module.GPT(config)
    if method != "full":
        kind = method.partition("_")[0]
        mark = getattr(module, f"mark_only_{method}_as_trainable", None)
        (mark or getattr(module, f"mark_only_{kind}_as_trainable"))(model)
    model = fabric.setup_module(model)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = fabric.setup_optimizers(torch.optim.AdamW(trained, lr=2e-4))
    model.max_seq_length = tokens
    model.train()
    ids = torch.randint(config.vocab_size, (micro_batch, tokens), device=fabric.device)
    for micro_step in range(1, 7):
        for block in model.modules():
            if hasattr(block, "adapter_kv_cache"):  # this litgpt keeps it, with its graph
                block.adapter_kv_cache = None
        inputs, targets = ids.clone(), ids.clone()
        logits = model(inputs, lm_head_chunk_size=128)
        logits[-1] = logits[-1][..., :-1, :]
        loss = chunked_cross_entropy(logits, targets[..., 1:])
        fabric.backward(loss / 2)
        if micro_step % 2 == 0:
            optimizer.step()
            optimizer.zero_grad()
