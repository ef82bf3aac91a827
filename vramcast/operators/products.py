"""Matrix products, which cuBLAS computes; of its buffers, the workspace that it keeps is known."""

import torch

from vramcast.operators.registry import register

aten = torch.ops.aten

PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "mv", "addmv")
register(
    *(getattr(getattr(aten, name), kind) for name in PRODUCTS for kind in ("default", "out")),
    cublas=True,
)
