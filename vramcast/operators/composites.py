"""Composite operators that do something else on CUDA than on the CPU.

A composite operator consists of others (CompositeImplicitAutograd in native_functions.yaml). Its
C++ code chooses them, for some operators by the device. Tensors without data answer no to
`is_cuda()` (device/devices.py), so the choices for CUDA are made here. The composite operators that
a training commonly calls are listed in tests/probes/composites.py, which compares each with what
PyTorch's CUDA build dispatches; those that are not here dispatch the same.
"""

from collections.abc import Callable

import torch

from vramcast import compat
from vramcast.operators.registry import put, substitutes, unfused

aten = torch.ops.aten


def dropout(input, p, train):
    """Dropout: CUDA keeps a mask of one byte per number, the CPU noise as large as the input.

    `is_fused_kernel_acceptable` in aten/src/ATen/native/Dropout.cpp. For dropout in place, of whole
    features, and for alpha dropout, CUDA has no such kernel either.
    """
    if train and 0 < p < 1 and input.numel() > 0:
        return aten.native_dropout(input, p, train)[0]
    return unfused(aten.dropout.default, input, p, train)


def _softmax(composite, fused) -> Callable:
    def softmax(input, dim, dtype=None):
        """float16 becomes float32 within the kernel (aten/src/ATen/native/SoftMax.cpp)."""
        if input.dtype == torch.float16 and dtype == torch.float32:
            return fused(input, dim, True)
        return unfused(composite, input, dim, dtype)

    return softmax


def batch_norm(
    input, weight, bias, running_mean, running_var, training, momentum, eps, cudnn_enabled
):
    """Batch norm: cuDNN's kernel needs a contiguous input.

    `_select_batch_norm_backend` in aten/src/ATen/native/Normalization.cpp, and cudnn/BatchNorm.cpp.
    What cuDNN reserves for the backward pass is not counted: only a GPU can tell
    (cudnnGetBatchNormalizationTrainingExReserveSpaceSize), and NVIDIA gives no formula.
    """
    cudnn = (
        torch.backends.cudnn.enabled and input.dim() >= 3
        and input.shape[0] <= (880_801 if training else 65_535)
        and weight is not None and bias is not None
        and (running_mean is None) == (running_var is None)
        and (training or running_mean is not None)
        and torch.bfloat16 not in (input.dtype, weight.dtype)
        and (input.dtype != torch.float16 or weight.dtype == torch.float32)
    )  # fmt: skip
    if not cudnn or not input.numel():
        return unfused(
            aten._batch_norm_impl_index.default, input, weight, bias, running_mean, running_var,
            training, momentum, eps, cudnn_enabled,
        )  # fmt: skip
    layout = compat.suggest_memory_format(input)
    return *aten.cudnn_batch_norm(
        input.contiguous(memory_format=layout),
        *(None if one is None else one.contiguous()
          for one in (weight, bias, running_mean, running_var)),
        training, momentum, eps,
    ), 1  # fmt: skip


def _to(
    tensor, dtype=None, layout=None, device=None, pin_memory=None, non_blocking=False, copy=False,
    memory_format=None,
):  # fmt: skip
    """The tensor itself if it is as asked, else a copy (`to_impl` in TensorConversions.cpp)."""
    format = memory_format or torch.preserve_format
    alike = format == torch.preserve_format or tensor.is_contiguous(memory_format=format)
    same = device in (None, tensor.device) and dtype in (None, tensor.dtype)
    if same and alike and not copy:
        return tensor
    return aten._to_copy(
        tensor, dtype=dtype, layout=layout, device=device, pin_memory=pin_memory,
        non_blocking=non_blocking, memory_format=memory_format,
    )  # fmt: skip


def _to_device(tensor, device, dtype=None, *rest, **options):
    names = ("non_blocking", "copy", "memory_format")
    return _to(tensor, dtype, device=device, **dict(zip(names, rest, strict=False)), **options)


def install() -> None:
    """Let these operators do from now on what they do on CUDA."""
    substitutes.update({aten.to.dtype_layout: _to, aten.to.device: _to_device})
    put(
        {
            "dropout": dropout,
            "softmax.int": _softmax(aten.softmax.int, aten._softmax),
            "log_softmax.int": _softmax(aten.log_softmax.int, aten._log_softmax),
            "_batch_norm_impl_index": batch_norm,
        }
    )
