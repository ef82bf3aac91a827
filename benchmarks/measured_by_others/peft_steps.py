"""PEFT's comparison of methods on MetaMathQA: Llama 3.2 3B in bfloat16, as its run.py trains it.

What is measured is the most that was reserved, less what was at the start (2 MiB); `cases` adds
that. What decides it:

- Batches are sorted within buckets of 20, the longest first, and the cache is emptied after every
  tenth step. So the longest batch of all comes right after it was emptied, behind the shortest one
  of the bucket before, whose result is still held.
- Texts in a batch differ in length, so that there is a mask.
- `outputs` lives until the next batch has its own.
- Before training, the base model's loss on 100 articles is taken with the method switched off; to
  switch it on again has all its parameters trained, also those that LoRA-FA had frozen.

Left out, since inference needs less: that loss, before and after, and the answers to the test's
questions. Left out too is the text that one prefix is initialized with.

Neither length is published. SHORTEST is assumed; 40 tokens more are 0.04 GB. The longest is in
peft_cases.py.
"""

import torch
from peft import get_peft_config, get_peft_model
from peft.optimizers import create_lorafa_optimizer
from peft.tuners.lycoris_utils import LycorisLayer
from peft.utils import quantization_utils
from transformers import AutoModelForCausalLM

MODEL = "meta-llama/Llama-3.2-3B"
BATCH = 4
SHORTEST = 80  # tokens
# torchao is not among what the comparison installs; today's is too new for this peft.
quantization_utils.is_torchao_available = lambda: False


def finetune(
    longest: int,
    adapter: dict | None = None,
    optimizer: str = "AdamW",
    settings: dict | None = None,
    autocast_adapter_dtype: bool = True,
) -> None:
    """Two steps on short batches, and one on a batch of this many tokens.

    `adapter`: the settings of the method, with its `peft_type`; None trains all parameters.
    `optimizer`: "AdamW", or "lora-fa" with its own `settings`.
    """
    torch.nn.Linear(1, 1).to("cuda")
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.bfloat16, device_map="cuda")
    if adapter:
        model = adapted(model, adapter, autocast_adapter_dtype)
    if optimizer == "lora-fa":
        stepper = create_lorafa_optimizer(model, lr=1e-4, weight_decay=0.1, **settings)
    else:
        stepper = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.1)
    if adapter:
        with model.disable_adapter():
            pass
    train(model)
    for step, tokens in enumerate((SHORTEST, SHORTEST, longest), 1):
        ids = torch.randint(100, 30_000, (BATCH, tokens), device="cpu")
        mask = torch.ones_like(ids)
        mask[1:, -1] = 0
        batch = {"input_ids": ids.to("cuda"), "attention_mask": mask.to("cuda")}
        batch["labels"] = batch["input_ids"].clone()
        stepper.zero_grad()
        outputs = model(**batch, num_items_in_batch=BATCH * tokens)
        loss = outputs.loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        stepper.step()
        if adapter and adapter["peft_type"] in ("ADALORA", "ADAMSS"):
            model.base_model.update_and_allocate(step)
        loss.item()
        if tokens == SHORTEST:
            torch.cuda.empty_cache()


def adapted(model: torch.nn.Module, adapter: dict, autocast: bool = True):
    """The model with this method's adapters, which are in float32 (`autocast`)."""
    return get_peft_model(model, get_peft_config(adapter), autocast_adapter_dtype=autocast)


def train(model: torch.nn.Module) -> None:
    """Put a model into training mode.

    LoHa and LoKr then compare a random number with their dropout, 0, and are left out if it is not
    higher. Without its number that cannot be decided; it is higher, as in evaluation mode.
    """
    model.train()
    for module in model.modules():
        if isinstance(module, LycorisLayer):
            module.training = False
