"""Hugging Face's guide to training on one GPU: BERT-large on random tokens, as its Trainer did.

Of January 2022: attention in single operators, an AdamW without lists, and gradients that are set
to zero, not freed (PyTorch's default until 2.0).
"""

import torch
from transformers import AutoModelForSequenceClassification, BertConfig
from transformers.optimization import Adafactor

# google-bert/bert-large-uncased's config.json, where it differs from BertConfig's defaults
LARGE = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_attention_heads": 16,
    "num_hidden_layers": 24,
}


def finetune(
    batch: int, accumulate: int = 1, checkpointing: bool = False, fp16: bool = False,
    adafactor: bool = False,
) -> None:  # fmt: skip
    """Four optimizer steps of `accumulate` batches of 512 tokens each."""
    config = BertConfig(**LARGE, attn_implementation="eager")
    model = AutoModelForSequenceClassification.from_config(config).to("cuda")
    if checkpointing:
        # as the Trainer did then: reentrant
        model.gradient_checkpointing_enable({"use_reentrant": True})
    if adafactor:
        optimizer = Adafactor(
            model.parameters(), lr=5e-5, scale_parameter=False, relative_step=False
        )
    else:
        optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, weight_decay=0, foreach=False)
    scaler = torch.amp.GradScaler("cuda", enabled=fp16)
    model.train()
    for step in range(1, 4 * accumulate + 1):
        ids = torch.randint(100, 30_000, (batch, 512), device="cpu").to("cuda")
        labels = torch.zeros(batch, dtype=torch.long, device="cpu").to("cuda")
        with torch.autocast("cuda", torch.float16, enabled=fp16):
            loss = model(input_ids=ids, labels=labels).loss
        scaler.scale(loss / accumulate).backward()
        if step % accumulate == 0:
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=False)
