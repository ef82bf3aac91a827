"""What techniques do to a model, before it is put on the GPU or an optimizer gets its parameters.

Each function changes the model in place. Raises NotApplied if it cannot be done to this model.
"""

import contextlib
from collections.abc import Callable
from functools import partial, update_wrapper

import torch
from torch.nn.utils import parametrize
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

from vramcast.techniques.blocks import behind, repeated

RANK = 16  # of adapters, as in script 15
LAST = 4  # one in so many blocks is trained by last-blocks, as in script 03-3
HEAD = 0.05  # of all parameters: a head that has more is frozen beside adapters
ATTENTION = [
    torch.ops.aten._scaled_dot_product_cudnn_attention.default,
    torch.ops.aten._scaled_dot_product_efficient_attention.default,
    torch.ops.aten._scaled_dot_product_flash_attention.default,
]


def within(function: Callable, forward: Callable, **options: object) -> Callable:
    """`function(forward, …)` in a forward's place, for libraries that ask for its signature."""
    return update_wrapper(partial(function, forward, **options), forward)


class NotApplied(Exception):
    """A technique cannot be applied to this script; the message says why."""


def bf16(model: torch.nn.Module) -> None:
    """Have all floating-point weights in bfloat16, and what the model is called with."""
    model.to(torch.bfloat16)
    model.forward = within(_in_bfloat16, model.forward)


def _in_bfloat16(forward: Callable, *args, **kwargs):
    args, kwargs = torch.utils._pytree.tree_map_only(
        torch.Tensor,
        lambda one: one.to(torch.bfloat16) if one.is_floating_point() else one,
        (args, kwargs),
    )
    return forward(*args, **kwargs)


def autocast(model: torch.nn.Module) -> None:
    """Run the model under autocast, as its losses (see applied.py)."""
    model.forward = within(under_autocast, model.forward)


def under_autocast(function: Callable, *args, **kwargs):
    """The result of a function of a model's, or of its loss, under autocast."""
    with torch.autocast("cuda", torch.bfloat16):
        return function(*args, **kwargs)


def checkpointed(model: torch.nn.Module, **options: object) -> None:
    """Keep each block's input alone; `options`: checkpoint's own."""
    for block in blocks_of(model):
        block.forward = within(checkpoint, block.forward, use_reentrant=False, **options)
    for part in model.modules():  # a cache of keys and values would grow when it is recomputed
        if hasattr(getattr(part, "config", None), "use_cache"):
            part.config.use_cache = False


def selective(model: torch.nn.Module) -> None:
    """Keep the results of fused attention as well, which are expensive to recompute."""
    checkpointed(model, context_fn=partial(create_selective_checkpoint_contexts, ATTENTION))


def offloaded(model: torch.nn.Module) -> None:
    """Keep each block's input alone, on the host."""
    checkpointed(model)
    model.forward = within(_saved_on_host, model.forward)


def _saved_on_host(forward: Callable, *args, **kwargs):
    saving = contextlib.nullcontext()
    if torch.is_grad_enabled():
        saving = torch.autograd.graph.save_on_cpu(pin_memory=True)
    with saving:
        return forward(*args, **kwargs)


def last_blocks(model: torch.nn.Module) -> None:
    """Train the last quarter of the blocks, and what comes after them."""
    blocks = blocks_of(model)
    head = behind(model, blocks)
    model.requires_grad_(False)
    for block in blocks[-max(1, len(blocks) // LAST) :]:
        block.requires_grad_(True)
    for parameter in head:
        parameter.requires_grad_(True)


def lora(model: torch.nn.Module, quantized: bool = False) -> None:
    """Freeze the model, and train adapters of the blocks' matrices, and a small head."""
    blocks = blocks_of(model)
    head, size = behind(model, blocks), sum(one.numel() for one in model.parameters())
    model.requires_grad_(False)
    for block in blocks:
        for part in list(block.modules()):
            _adapt(part, quantized)
    if sum(one.numel() for one in head) <= HEAD * size:
        for parameter in head:
            if parameter.is_floating_point():
                parameter.requires_grad_(True)


def _adapt(part: torch.nn.Module, quantized: bool) -> None:
    """Give a module's own matrices adapters.

    A Linear computes beside its frozen weight, as in peft. Of other modules (an attention whose
    weights no Linear holds), the adapter is added to the weight, as in script 15.
    """
    if type(part) is torch.nn.Linear:
        part.adapter, forward = LoRA(part.weight), part.forward
        if quantized:
            part.codes, forward = _nf4(part.weight), partial(_quantized_linear, part)
            part.weight = torch.nn.Parameter(part.weight.new_empty(0), requires_grad=False)
        part.forward = partial(_adapted, forward, part.adapter)
    elif not isinstance(part, torch.nn.Embedding):
        own = list(part.named_parameters(recurse=False))
        for name, weight in ((name, one) for name, one in own if one.dim() == 2):
            adapter = LoRA(weight, quantized)
            parametrize.register_parametrization(part, name, adapter, unsafe=quantized)


class LoRA(torch.nn.Module):
    """An adapter of low rank for a frozen weight [out_features, in_features]."""

    def __init__(self, weight: torch.Tensor, quantized: bool = False) -> None:
        super().__init__()
        out_features, in_features = weight.shape
        like = {"dtype": weight.dtype, "device": weight.device}
        self.a = torch.nn.Parameter(torch.zeros(RANK, in_features, **like))
        self.b = torch.nn.Parameter(torch.zeros(out_features, RANK, **like))
        self.codes = _nf4(weight) if quantized else None

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The weight with the adapter; a parametrization of it."""
        if self.codes is None:
            return weight + self.b @ self.a
        return _dequantized(self.codes, self.b.dtype) + self.b @ self.a

    def right_inverse(self, weight: torch.Tensor) -> torch.Tensor:
        """What is kept in the weight's place."""
        return weight if self.codes is None else weight.new_empty(0)


def _adapted(forward: Callable, adapter: LoRA, inputs: torch.Tensor) -> torch.Tensor:
    beside = torch.nn.functional.linear(torch.nn.functional.linear(inputs, adapter.a), adapter.b)
    return forward(inputs) + beside


def _quantized_linear(part: torch.nn.Linear, inputs: torch.Tensor) -> torch.Tensor:
    from bitsandbytes import matmul_4bit

    codes, state = part.codes
    state.dtype = inputs.dtype  # which the model may have got after its weights were quantized
    bias = None if part.bias is None else part.bias.to(inputs.dtype)
    return matmul_4bit(inputs, codes.t(), bias=bias, quant_state=state)


def _nf4(weight: torch.Tensor) -> tuple:
    from bitsandbytes.functional import quantize_nf4

    # in 16 bits, as frozen weights are usually loaded
    return quantize_nf4(weight.data.to(torch.bfloat16).cuda(), compress_statistics=True)


def _dequantized(codes: tuple, dtype: torch.dtype) -> torch.Tensor:
    from bitsandbytes.functional import dequantize_4bit

    codes[1].dtype = dtype  # which the model may have got after its weights were quantized
    return dequantize_4bit(*codes)


def blocks_of(model: torch.nn.Module) -> list[torch.nn.Module]:
    """The repeated blocks of a model. Raises NotApplied if it has none."""
    blocks = repeated(model)
    if not blocks:
        raise NotApplied("its model has no repeated blocks")
    return blocks


# by the technique's name, in the order in which they are done; "offload" includes checkpointing
TO_MODELS = {
    "bf16": bf16,
    "last-blocks": last_blocks,
    "lora": lora,
    "qlora": partial(lora, quantized=True),
    "checkpointing": checkpointed,
    "selective-checkpointing": selective,
    "offload": offloaded,
    "bf16-autocast": autocast,
}
