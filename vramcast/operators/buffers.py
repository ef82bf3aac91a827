"""Memory that an operator takes while it runs and gives back at its end.

There is a rule for each such operator: from its arguments to bytes. Only operators whose buffers
can be read in PyTorch's sources are here. Buffers inside cuDNN and cuBLAS are not known.
"""

from collections.abc import Callable

import torch

aten = torch.ops.aten
Rule = Callable[[tuple], list[int]]
FLOAT = 4  # bytes


def multiple(number: int, of: int) -> int:
    """`number`, rounded up to a multiple."""
    return -(-number // of) * of


def flash_backward(args: tuple) -> list[int]:
    """FlashAttention 2: the query's gradient in float32, and a number for each of its rows.

    `dq_accum` and `softmax_d` of mha_bwd in aten/src/ATen/native/transformers/cuda/flash_attn/
    flash_api.cpp. The query, args[1], is of [batch, heads, tokens, size].
    """
    batch, heads, tokens, size = args[1].shape
    rows = batch * heads * multiple(tokens, 128)
    return [rows * FLOAT, rows * multiple(size, 32) * FLOAT]


RULES: dict[object, Rule] = {
    aten._scaled_dot_product_flash_attention_backward.default: flash_backward
}
