"""Which kernel computes scaled dot product attention on a GPU; what is kept depends on that.

The rules are those of aten/src/ATen/native/transformers/cuda/sdp_utils.cpp (torch 2.14; where
other versions differ, compat.py is asked), for the GPU's compute capability. The fused kernels keep
only a random seed for dropout. The plain one consists of other operators, and its dropout keeps a
mask of one byte per number (composites.py).
"""

import functools

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend

from vramcast import compat
from vramcast.memory.blocks import multiple
from vramcast.operators.registry import FLOAT, HALF, put, register

aten = torch.ops.aten


class Call:
    """The arguments of a call that decide which kernel runs (`sdp_params`)."""

    def __init__(self, query, key, value, mask, dropout, causal, gqa) -> None:
        self.tensors = query, key, value
        self.dtype, self.mask, self.dropout, self.causal = query.dtype, mask, dropout, causal
        self.width, self.value_width = query.shape[-1], value.shape[-1]
        self.length, self.key_length = query.shape[-2], key.shape[-2]
        self.widths_equal = query.shape[-1] == key.shape[-1]
        self.grad = torch.is_grad_enabled() and any(t.requires_grad for t in self.tensors)
        # `check_tensor_shapes`, `check_nonzero_sequence_lengths_dense`, and
        # `check_batch_size_and_num_heads_dense`: several queries' heads may share one of keys
        self.dense = (
            all(t.dim() == 4 for t in self.tensors)
            and self.length > 0 and self.key_length > 0
            and len({t.shape[0] for t in self.tensors}) == 1
            and key.shape[1] == value.shape[1]
            and (query.shape[1] == key.shape[1]
                 or (gqa and query.shape[1] % key.shape[1] == 0))
        )  # fmt: skip

    def packed(self, singleton: bool) -> bool:
        """`check_last_dim_stride_equals_1_dense`."""
        masks = [] if self.mask is None else [self.mask]
        return all(
            t.stride(-1) == 1 or (singleton and t.shape[-1] == 1) for t in (*self.tensors, *masks)
        )


def cudnn(call: Call, capability: tuple[int, int]) -> bool:
    """`can_use_cudnn_attention`, for the cuDNN that PyTorch installs."""
    widths = call.width, call.value_width
    fits = compat.cudnn_widths(*widths, capability, call.grad)
    in_steps = (call.dropout * 16).is_integer() or not compat.CUDNN_DROPOUT_IN_STEPS
    return (
        torch.backends.cuda.cudnn_sdp_enabled() and call.dense and call.packed(True)
        and capability >= (8, 0) and call.dtype in HALF and fits
        and not any(width % 8 for width in widths)
        and in_steps
        and call.key_length != 1 and not (call.dropout and call.length == 1)
        and (not torch.are_deterministic_algorithms_enabled()
             or torch.is_deterministic_algorithms_warn_only_enabled())
    )  # fmt: skip


def flash(call: Call, capability: tuple[int, int]) -> bool:
    """`can_use_flash_attention`: 16 bits, no mask, compute capability 8 and more."""
    wide = (8, 6) <= capability <= (8, 9) or capability[0] == 12
    return (
        torch.backends.cuda.flash_sdp_enabled() and call.dense and call.packed(True)
        and capability >= (8, 0) and call.dtype in HALF and call.mask is None
        and call.widths_equal and call.width == call.value_width <= 256
        and not (call.causal and call.length != call.key_length)
        and not (call.grad and wide and call.width > 192
                 and (call.dropout or call.width <= 224))
    )  # fmt: skip


def efficient(call: Call, capability: tuple[int, int]) -> bool:
    """`can_use_mem_efficient_attention`: also with a mask, and in float32."""
    half = call.dtype in HALF
    # `minimum_gemm_alignment`: tensor cores take 16 bytes at once
    if capability >= (8, 0):
        alignment = 8 if half else 4
    else:
        alignment = 8 if half and capability >= (7, 0) else 1
    placed = capability >= (8, 0) and compat.EFFICIENT_NEEDS_ALIGNMENT
    offsets = [t.storage_offset() for t in call.tensors] if placed else []
    shared = call.tensors[0].shape[1] != call.tensors[1].shape[1]
    return (
        torch.backends.cuda.mem_efficient_sdp_enabled() and call.dense and call.packed(False)
        and (compat.EFFICIENT_SHARES_HEADS or not shared)
        and (half or call.dtype == torch.float32)
        and (call.dtype != torch.bfloat16 or capability >= (8, 0))
        and call.widths_equal
        and not any(n % alignment for n in (call.width, call.value_width, *offsets))
    )  # fmt: skip


KERNELS = {
    SDPBackend.CUDNN_ATTENTION: cudnn,
    SDPBackend.FLASH_ATTENTION: flash,
    SDPBackend.EFFICIENT_ATTENTION: efficient,
    SDPBackend.MATH: lambda call, capability: True,
}


def choose(call: Call, capability: tuple[int, int], usual: list[int]) -> SDPBackend:
    """`select_sdp_backend`. `usual` is PyTorch's default order of backends.

    cuDNN's kernel comes first on compute capability 9 and 10 (`check_prefer_cudnn_attention`).
    """
    order = [SDPBackend(number) for number in compat.sdp_order()]
    if capability[0] in (9, 10) and [int(one) for one in order] == usual:
        order.insert(0, SDPBackend.CUDNN_ATTENTION)
    return next(one for one in order if one in KERNELS and KERNELS[one](call, capability))


def _aligned(mask: torch.Tensor) -> torch.Tensor:
    """The mask, padded if its rows do not begin at multiples of 8 numbers, as the kernel needs.

    It is the memory-efficient kernel that does (`preprocess_mask` in
    aten/src/ATen/native/transformers/attention.cpp).
    """
    if not any(stride % 8 for stride in mask.stride()[:-1]) and mask.stride(-1) == 1:
        return mask
    width = mask.shape[-1]
    return F.pad(mask, (0, 8 - width % 8))[..., :width]


# ---------------------------------------------------------------- what the kernels take and compute


def copies(*tensors: torch.Tensor) -> list[int]:
    """Bytes of copies of tensors [batch, heads, tokens, size] that are not laid out by tokens.

    `grad_out.contiguous()` and `out.contiguous()`, with heads and tokens swapped, in
    `_flash_attention_backward` and `_efficient_attention_backward` of
    aten/src/ATen/native/transformers/cuda/attention_backward.cu.
    """
    return [t.numel() * t.element_size() for t in tensors if not t.transpose(1, 2).is_contiguous()]


def flash_backward(multiprocessors: int, args: tuple) -> list[int]:
    """FlashAttention 2: the query's gradient in float32, and a number for each of its rows.

    `dq_accum`, `softmax_d`, `dk_expanded` and `dv_expanded` of mha_bwd in aten/src/ATen/native/
    transformers/cuda/flash_attn/flash_api.cpp. Where several queries' heads share one of keys, the
    keys' gradients are first those of each query's head. Deterministic, the query's gradient is
    summed in so many parts that all multiprocessors have work. args: the output's gradient, query,
    key, value and output, of [batch, heads, tokens, size].
    """
    gradient, query, key, _, output = args[:5]
    batch, heads, tokens, size = query.shape
    rows = batch * heads * multiple(tokens, 128)
    deterministic = (
        torch.are_deterministic_algorithms_enabled()
        and not torch.is_deterministic_algorithms_warn_only_enabled()
    )
    parts = -(-multiprocessors // (batch * heads)) if deterministic else 1
    taken = [rows * FLOAT, parts * rows * multiple(size, 32 if size <= 128 else 64) * FLOAT]
    if key.shape[1] != heads:
        taken += 2 * [batch * key.shape[2] * heads * size * query.element_size()]
    return copies(gradient, output) + taken


def efficient_forward(args: tuple) -> list[int]:
    """The memory-efficient kernel: 16 bits' wide results are summed in float32 in memory.

    `output_accum` in attention.cu, where a value has more than the 128 numbers of a block
    (`kNeedsOutputAccumulatorBuffer` of mem_eff_attention/kernel_forward.h).
    """
    query, _, value = args[:3]
    rows = query.shape[0] * query.shape[1] * query.shape[2]
    wide = query.dtype in HALF and value.shape[3] > 128
    return [rows * value.shape[3] * FLOAT] if wide else []


def efficient_backward(args: tuple) -> list[int]:
    """The memory-efficient kernel: the query's gradient in float32, and a number for each row.

    `delta` in attention_backward.cu and `workspace_elements_gq` in mem_eff_attention/
    kernel_backward.h, in tiles of 64 by 64 numbers. Tiles of 128 rows, which some GPUs and sizes
    get, and the keys' gradients of wide heads (some MB) are not counted.
    """
    gradient, query = args[:2]
    batch, heads, tokens, size = query.shape
    rows = batch * heads
    workspace = rows * multiple(tokens, 64) * multiple(size, 64) * FLOAT
    return [*copies(gradient), rows * tokens * FLOAT, workspace]


def varied_flash_backward(args: tuple) -> list[int]:
    """The same with lengths of their own: `mha_varlen_bwd` in flash_api.cpp.

    args: the output's gradient and the query, of [tokens of all, heads, size]; at 6, the offsets.
    """
    query, offsets = args[1], args[6]
    if offsets is None:
        return []
    tokens, heads, size = query.shape
    rows = (tokens + 128 * (offsets.numel() - 1)) * heads
    return [rows * FLOAT, rows * multiple(size, 32 if size <= 128 else 64) * FLOAT]


def varied_efficient_backward(args: tuple) -> list[int]:
    """The same for the memory-efficient kernel, with room for the longest in each.

    args: the gradient and the query, of [1, tokens, heads, size]; at 6 offsets, at 8 the longest.
    """
    query, offsets, longest = args[1], args[6], args[8]
    if offsets is None:
        return []
    _, tokens, heads, size = query.shape
    rows = (offsets.numel() - 1) * heads * multiple(longest, 64)
    return [tokens * heads * FLOAT, rows * multiple(size, 64) * FLOAT]


def causal_share(queries: int, keys: int) -> float:
    """The share of all pairs of query and key in which query i meets only the first i keys."""
    square = min(queries, keys)
    return (square * (square + 1) / 2 + (queries - square) * keys) / (queries * keys)


def _share(given: dict) -> float:
    """PyTorch's formula counts attention as if nothing were masked; causal attention needs less."""
    if not given.get("is_causal"):
        return 1.0
    return causal_share(given["query"].shape[2], given["key"].shape[2])


FUSED = [
    getattr(aten, f"_scaled_dot_product_{name}_attention{direction}").default
    for name in ("flash", "cudnn", "efficient")
    for direction in ("", "_backward")
]
register(*FUSED, share=_share)
register(aten._scaled_dot_product_efficient_attention.default, buffers=efficient_forward)
register(aten._flash_attention_backward.default, buffers=varied_flash_backward)
register(aten._efficient_attention_backward.default, buffers=varied_efficient_backward)
register(aten._scaled_dot_product_efficient_attention_backward.default, buffers=efficient_backward)


# ---------------------------------------------------------------------------------------- choice


def install(capability: tuple[int, int], multiprocessors: int) -> None:
    """Choose the kernel as PyTorch does on a GPU of this compute capability and size."""
    register(
        aten._scaled_dot_product_flash_attention_backward.default,
        buffers=functools.partial(flash_backward, multiprocessors),
    )
    usual = list(compat.sdp_order())

    def attention(
        query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, *, scale=None,
        enable_gqa=False,
    ):  # fmt: skip
        call = Call(query, key, value, attn_mask, dropout_p, is_causal, enable_gqa)
        kernel = choose(call, capability, usual)
        options, width = {"scale": scale}, call.width
        if kernel == SDPBackend.FLASH_ATTENTION:
            pad = -width % 8
            if pad:
                options["scale"] = scale or width**-0.5
                query, key, value = (F.pad(t, (0, pad)) for t in (query, key, value))
            out = aten._scaled_dot_product_flash_attention(
                query, key, value, dropout_p, is_causal, False, **options
            )[0]
            return out[..., :width] if pad else out
        if kernel == SDPBackend.MATH:
            return aten._scaled_dot_product_attention_math(
                query, key, value, attn_mask, dropout_p, is_causal, None, scale=scale,
                enable_gqa=enable_gqa,
            )[0]  # fmt: skip
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype).masked_fill_(attn_mask, 0.0)
        if kernel == SDPBackend.CUDNN_ATTENTION:
            return aten._scaled_dot_product_cudnn_attention(
                query, key, value, attn_mask, call.grad, dropout_p, is_causal, False, **options
            )[0]
        if attn_mask is not None:
            attn_mask = _aligned(attn_mask).expand(*query.shape[:3], key.shape[2])
        return aten._scaled_dot_product_efficient_attention(
            query, key, value, attn_mask, call.grad, dropout_p, is_causal, **options
        )[0]

    put({"scaled_dot_product_attention": attention})
