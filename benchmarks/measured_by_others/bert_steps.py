"""Hugging Face's guide to training on one GPU: BERT-large on random tokens, as its Trainer did.

As of January 2022, when PyTorch 1.10 was the newest: attention in single operators, an AdamW
without lists, and gradients that are set to zero, not freed (the default until 2.0).
"""

import torch
from transformers import AttentionInterface, AutoModelForSequenceClassification, BertConfig
from transformers.optimization import Adafactor

# google-bert/bert-large-uncased's config.json, where it differs from BertConfig's defaults
LARGE = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_attention_heads": 16,
    "num_hidden_layers": 24,
}


class Softmax(torch.autograd.Function):
    """Softmax as PyTorch differentiated it then: its input is kept as well as its output.

    Ended by github.com/pytorch/pytorch/pull/66018 (opened on 1 October 2021), for the reason that
    issue 49600 there gives. 1.10, of 21 October, is taken to be without it.
    """

    @staticmethod
    def forward(ctx, scores):
        result = torch.softmax(scores, -1)
        ctx.save_for_backward(scores, result)
        return result

    @staticmethod
    def backward(ctx, gradient):
        scores, result = ctx.saved_tensors
        return torch._softmax_backward_data(gradient, result, -1, scores.dtype)


def attention(module, query, key, value, attention_mask, dropout=0.0, **others):
    """Attention as transformers 4.15 computed it in BertSelfAttention.

    All of shape [batch, heads, tokens, head size]; the result's tokens come before its heads. The
    mask is in the parameters' precision, float32, and so are the scores once it is added.
    """
    scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    scores = scores + torch.zeros(len(query), 1, 1, key.shape[2], device=query.device)
    shares = torch.nn.functional.dropout(Softmax.apply(scores), dropout, module.training)
    return (shares @ value).transpose(1, 2).contiguous(), shares


AttentionInterface.register("of_2022", attention)


def finetune(
    batch: int, accumulate: int = 1, checkpointing: bool = False, fp16: bool = False,
    adafactor: bool = False,
) -> None:  # fmt: skip
    """Four optimizer steps of `accumulate` batches of 512 tokens each."""
    config = BertConfig(**LARGE, attn_implementation="of_2022")
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
