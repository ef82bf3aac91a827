"""Operators on lists of tensors; of their buffers, what norms take is counted."""

import torch

from vramcast.operators.registry import register

CHUNK = 65_536  # numbers that one block of threads adds up (kChunkSize in MultiTensorApply.cuh)


def norms(args: tuple) -> list[int]:
    """Bytes for a sum of each chunk: as many for each tensor as the largest one has.

    `foreach_tensor_norm_cuda` in aten/src/ATen/native/cuda/ForeachReduceOp.cu.
    """
    tensors = args[0]
    if not tensors or tensors[0].device.type != "cuda":
        return []
    chunks = max(-(-tensor.numel() // CHUNK) for tensor in tensors)
    size = 8 if tensors[0].dtype == torch.float64 else 4
    return [len(tensors) * chunks * size]


register(torch.ops.aten._foreach_norm.Scalar, buffers=norms)
