"""Composite operators whose C++ asks whether a tensor is on CUDA, decided as for CUDA.

A composite operator consists of others, which its C++ code chooses by the device among other things
(CompositeImplicitAutograd in native_functions.yaml). Tensors without data answer no to `is_cuda()`
(devices.py), so those choices are made here. Every composite operator that a training commonly
calls was compared with what PyTorch's own CUDA build dispatches: tests/probe_composites.py holds
the list, and does so again. What is not here is dispatched alike.
"""

from collections.abc import Callable

import torch

aten = torch.ops.aten


def put(kernels: dict[str, Callable]) -> None:
    """Let tensors on "cuda" take these kernels ("operator" or "operator.overload" by name)."""
    for name, kernel in kernels.items():
        for key in ("AutogradCUDA", "CUDA"):
            LIBRARY.impl(name, kernel, key, allow_override=True)


def unfused(op: torch._ops.OpOverload, *args):
    """What an operator's own C++ makes of it for these tensors.

    (`OpOverload.decompose` would prefer a substitute in Python, where there is one.)
    """
    return op._op_dk(torch._C.DispatchKey.CompositeImplicitAutograd, *args)


LIBRARY = torch.library.Library("aten", "IMPL")  # its kernels last as long as it does


def dropout(input, p, train):
    """A mask of one byte a number is kept, in the place of noise as large as the input.

    `is_fused_kernel_acceptable` in aten/src/ATen/native/Dropout.cpp. In place, and where whole
    features or alpha dropout are asked for, CUDA has no such kernel either.
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
    """cuDNN's kernel takes its input contiguous: `_select_batch_norm_backend` in
    aten/src/ATen/native/Normalization.cpp, and cudnn/BatchNorm.cpp.

    What it reserves for the backward pass is not known without a GPU and not counted. cuDNN tells
    (cudnnGetBatchNormalizationTrainingExReserveSpaceSize), and NVIDIA says of no formula.
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
    layout = torch._prims_common.suggest_memory_format(input)
    return *aten.cudnn_batch_norm(
        input.contiguous(memory_format=layout),
        *(None if one is None else one.contiguous()
          for one in (weight, bias, running_mean, running_var)),
        training, momentum, eps,
    ), 1  # fmt: skip


def install() -> None:
    """Decide these operators as for CUDA from now on. Cannot be undone."""
    put(
        {
            "dropout": dropout,
            "softmax.int": _softmax(aten.softmax.int, aten._softmax),
            "log_softmax.int": _softmax(aten.log_softmax.int, aten._log_softmax),
            "_batch_norm_impl_index": batch_norm,
        }
    )
