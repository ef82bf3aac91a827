"""Which kernel computes attention on a GPU, and so what it keeps."""

import torch
import torch.nn.functional as F

from prediction.autocast import HALF
from prediction.composites import put

aten = torch.ops.aten


def install() -> None:
    """Choose the kernel of scaled dot product attention as PyTorch does on a GPU.

    Flash attention takes 16-bit inputs without a mask, the memory-efficient kernel the rest (see
    `sdp_utils.cpp`). Both need equal head sizes of queries, keys and values.
    """
    composite = aten.scaled_dot_product_attention.default.decompose

    def attention(
        query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, *, scale=None,
        enable_gqa=False,
    ):  # fmt: skip
        options = {"scale": scale}
        plain = query.dim() == 4 and not enable_gqa and query.shape[-1] == value.shape[-1]
        grad = torch.is_grad_enabled() and any(t.requires_grad for t in (query, key, value))
        flash = query.dtype in HALF and attn_mask is None and query.shape[-1] <= 256
        if plain and flash:
            width = query.shape[-1]
            pad = -width % 8
            if pad:
                options["scale"] = scale or width**-0.5
                query, key, value = (F.pad(t, (0, pad)) for t in (query, key, value))
            out = aten._scaled_dot_product_flash_attention(
                query, key, value, dropout_p, is_causal, False, **options
            )[0]
            return out[..., :width] if pad else out
        if plain:
            if attn_mask is not None and attn_mask.dtype == torch.bool:
                attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype).masked_fill_(
                    attn_mask, 0.0
                )
            if attn_mask is not None:
                attn_mask = attn_mask.expand(*query.shape[:3], key.shape[2])
            return aten._scaled_dot_product_efficient_attention(
                query, key, value, attn_mask, grad, dropout_p, is_causal, **options
            )[0]
        return composite(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )

    put({"scaled_dot_product_attention": attention})
