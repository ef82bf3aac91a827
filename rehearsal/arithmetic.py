"""16-bit arithmetic with a GPU's rounding, and a fast way to convolutions on a CPU."""

import functools

import torch
import torch.nn.functional as F

HALF = (torch.float16, torch.bfloat16)


def install() -> None:
    """Compute matrix products and convolutions in these ways from now on."""
    F.conv2d = _patches_as_matrix_product(F.conv2d)
    for name in ("linear", "conv2d", "scaled_dot_product_attention"):
        setattr(F, name, _accumulate_in_float32(getattr(F, name)))
    for name in ("matmul", "mm", "bmm", "einsum"):
        setattr(torch, name, _accumulate_in_float32(getattr(torch, name)))
    for name in ("matmul", "mm", "bmm", "__matmul__"):  # the last is the operator @
        setattr(torch.Tensor, name, _accumulate_in_float32(getattr(torch.Tensor, name)))
    torch._fused_adam_ = _moments_in_bfloat16(torch._fused_adam_)


def _patches_as_matrix_product(conv2d):
    """A convolution whose patches do not overlap, computed as one matrix product, which it equals.

    On a CPU, its backward pass takes a quarter of the general convolution's time.
    """

    @functools.wraps(conv2d)
    def wrapped(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
        height, width = weight.shape[2:]
        side_by_side = stride in (height, (height, width)) and height == width
        rows, rest_below = divmod(input.shape[-2], height)
        columns, rest_beside = divmod(input.shape[-1], width)
        plain = padding in (0, (0, 0)) and dilation in (1, (1, 1)) and groups == 1
        if not (side_by_side and plain and input.dim() == 4) or rest_below or rest_beside:
            return conv2d(input, weight, bias, stride, padding, dilation, groups)
        patches = input.reshape(len(input), -1, rows, height, columns, width)
        patches = patches.permute(0, 2, 4, 1, 3, 5).flatten(3)  # [B, rows, columns, C * P * P]
        return torch.nn.functional.linear(patches, weight.flatten(1), bias).permute(0, 3, 1, 2)

    return wrapped


def _accumulate_in_float32(function):
    """A matrix product of 16-bit numbers, computed as tensor cores do.

    They multiply the 16-bit inputs exactly, add in float32 and round the result to 16 bits
    (NVIDIA, "Tensor Core GPU architecture" white papers). Many CPUs have no 16-bit arithmetic; on
    these, PyTorch's own 16-bit products are up to thirty times slower than float32.
    """

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        half = next(arg.dtype for arg in args if isinstance(arg, torch.Tensor))
        if torch.is_autocast_enabled("cpu"):
            half = torch.get_autocast_dtype("cpu")
        if half not in HALF:
            return function(*args, **kwargs)

        def widen(value):
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                return value.to(half).float()
            return value

        with torch.autocast("cpu", enabled=False):
            result = function(
                *(widen(arg) for arg in args), **{key: widen(arg) for key, arg in kwargs.items()}
            )
        return result.to(half)

    return wrapped


def _moments_in_bfloat16(fused_adam):
    """Adam's fused step, also for float32 parameters whose moments are bfloat16.

    A GPU's kernel reads such moments, computes in float32 and rounds what it writes
    (FusedAdamMathFunctorMP in PyTorch's fused_adam_utils.cuh). A CPU's cannot.
    """

    @functools.wraps(fused_adam)
    def wrapped(parameters, gradients, first, second, *rest, **options):
        if first[0].dtype == parameters[0].dtype:
            return fused_adam(parameters, gradients, first, second, *rest, **options)
        wide = [moment.float() for moment in first + second]
        halves = wide[: len(first)], wide[len(first) :]
        fused_adam(parameters, gradients, *halves, *rest, **options)
        for moment, value in zip(first + second, wide, strict=True):  # also FSDP2's, one by one
            moment.copy_(value)

    return wrapped
