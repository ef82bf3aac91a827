"""Matrix products and convolutions, which libraries compute.

The buffers of cuDNN and cuBLAS are not known, but for the workspace that cuBLAS keeps.
"""

import torch

from vramcast.operators.registry import register

aten = torch.ops.aten

PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "mv", "addmv")
register(*(getattr(aten, name).default for name in PRODUCTS), cublas=True)
register(aten.convolution.default, aten.convolution_backward.default, convolution=True)
