"""can-i-finetune-this's benchmark on an RTX 4080: LoRA, or QLoRA in 4 bits, by its runner.py.

`outputs` and the batch live until the next step has its own, as there. Its mask of ones is left
out, as transformers does with such a mask. Queries then share keys, which PyTorch's
memory-efficient kernel could not do before 2.12. The figures are of 2.6, where attention in float32
was computed in single operators.
"""

import bitsandbytes
import torch
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig, GPT2Config

TARGETS = {  # its scope "attention"
    "qwen2": ["q_proj", "k_proj", "v_proj", "o_proj"],
    "gpt2": ["c_attn", "c_proj"],
}
SIZES = {  # of its config.json, for models whose sizes vramcast does not know
    "Qwen/Qwen2.5-3B-Instruct": {
        "model_type": "qwen2", "hidden_size": 2048, "num_hidden_layers": 36,
        "num_attention_heads": 16, "num_key_value_heads": 2, "intermediate_size": 11008,
        "vocab_size": 151_936, "max_position_embeddings": 32_768, "tie_word_embeddings": True,
    },
}  # fmt: skip
STAGES = ("load", "lora", "forward", "backward", "step", "run")


def finetune(until: str = "run", **options) -> None:
    """So many optimizer steps, ended after one of STAGES (of the first step, but for "run").

    What never trained would not be predicted, so a number takes a step at the end: of one block.
    """
    _finetune(STAGES.index(until), **options)
    number = torch.zeros(1, device="cuda", requires_grad=True)
    number.backward()
    torch.optim.SGD([number]).step()


def _finetune(
    stage: int, name: str, tokens: int, batch: int, rank: int, steps: int, quantized: bool,
    checkpointing: bool = True,
) -> None:  # fmt: skip
    model = _load(name, quantized, checkpointing)
    if stage < 1:
        return
    model = get_peft_model(
        model,
        LoraConfig(
            r=rank, lora_alpha=16, bias="none", target_modules=TARGETS[model.config.model_type],
            task_type="CAUSAL_LM",
        ),
    )  # fmt: skip
    if stage < 2:
        return
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = bitsandbytes.optim.PagedAdamW8bit(trained, lr=2e-4)
    model.train()
    if model.config.model_type == "qwen2":
        torch.backends.cuda.enable_mem_efficient_sdp(False)
    for _ in range(steps):
        ids = torch.randint(model.config.vocab_size, (batch, tokens), device="cpu")
        given = {"input_ids": ids, "labels": ids.clone()}
        given = {key: value.to("cuda") for key, value in given.items()}
        outputs = model(**given)
        loss = outputs.loss
        loss.detach().to("cpu").item()
        if stage < 3:
            return
        loss.backward()
        if stage < 4:
            return
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if stage < 5:
            return


def _load(name: str, quantized: bool, checkpointing: bool):
    options = {"dtype": torch.bfloat16, "attn_implementation": "sdpa"}
    if name in SIZES:
        options["config"] = AutoConfig.for_model(**SIZES[name])
    if name == "sshleifer/tiny-gpt2":  # two blocks, of two numbers a token
        sizes = GPT2Config(n_embd=2, n_head=2, n_layer=2)
        model = AutoModelForCausalLM.from_config(sizes, **options).to("cuda")
    elif quantized:
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_compute_dtype=torch.bfloat16, bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
        )  # fmt: skip
        model = AutoModelForCausalLM.from_pretrained(name, device_map={"": 0}, **options)
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=checkpointing)
    else:
        model = AutoModelForCausalLM.from_pretrained(name, **options).to("cuda")
    if checkpointing and not model.is_gradient_checkpointing:
        model.gradient_checkpointing_enable()
    return model
