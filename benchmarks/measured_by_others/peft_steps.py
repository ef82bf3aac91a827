"""PEFT's comparison of methods: Llama 3.2 3B on MetaMathQA, in bfloat16."""

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

# meta-llama/Llama-3.2-3B's config.json, where it differs from LlamaConfig's defaults
SIZES = {
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_attention_heads": 24,
    "num_hidden_layers": 28,
    "num_key_value_heads": 8,
    "tie_word_embeddings": True,
    "vocab_size": 128_256,
    "max_position_embeddings": 131_072,
}


def finetune(batch: int, tokens: int, lora: dict | None = None) -> None:
    """Three optimizer steps on batches of this length.

    `lora`: the settings of peft's LoraConfig; without, all parameters are trained.
    """
    model = AutoModelForCausalLM.from_config(LlamaConfig(**SIZES), dtype=torch.bfloat16).to("cuda")
    if lora:
        from peft import LoraConfig, get_peft_model

        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **lora))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.1)
    model.train()
    for _ in range(3):
        ids = torch.randint(100, 30_000, (batch, tokens), device="cpu").to("cuda")
        mask, labels = torch.ones_like(ids), ids.clone()
        optimizer.zero_grad()
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
