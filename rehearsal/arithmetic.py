"""16-bit arithmetic with a GPU's rounding, and a fast way to convolutions on a CPU."""

import functools

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

HALF = (torch.float16, torch.bfloat16)
RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")  # which nn.LSTM and its like call
RECURRENT += ("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell")


def install() -> None:
    """Compute matrix products and convolutions in these ways from now on."""
    F.conv2d = _patches_as_matrix_product(F.conv2d)
    F.scaled_dot_product_attention = _any_kernel(F.scaled_dot_product_attention)
    for name in ("linear", "conv2d", "scaled_dot_product_attention"):
        setattr(F, name, _accumulate_in_float32(getattr(F, name)))
    for name in ("matmul", "mm", "bmm", "einsum"):
        setattr(torch, name, _accumulate_in_float32(getattr(torch, name)))
    for name in RECURRENT:
        setattr(torch._VF, name, _accumulate_in_float32(getattr(torch._VF, name)))
    for name in ("matmul", "mm", "bmm", "__matmul__"):  # the last is the operator @
        setattr(torch.Tensor, name, _accumulate_in_float32(getattr(torch.Tensor, name)))
    for name in ("_fused_adam_", "_fused_adamw_"):
        setattr(torch, name, _moments_in_bfloat16(getattr(torch, name)))


def _patches_as_matrix_product(conv2d):
    """A convolution whose patches do not overlap, computed as one matrix product, which it equals.

    On a CPU, its backward pass takes a quarter of the general convolution's time.
    """

    @functools.wraps(conv2d)
    def wrapped(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
        height, width = weight.shape[2:]
        side_by_side = stride in (height, (height, width)) and height == width
        plain = padding in (0, (0, 0)) and dilation in (1, (1, 1)) and groups == 1
        if not (side_by_side and plain and input.dim() == 4 and input.numel()):
            return conv2d(input, weight, bias, stride, padding, dilation, groups)
        rows, rest_below = divmod(input.shape[-2], height)
        columns, rest_beside = divmod(input.shape[-1], width)
        if rest_below or rest_beside:
            return conv2d(input, weight, bias, stride, padding, dilation, groups)
        patches = input.reshape(len(input), -1, rows, height, columns, width)
        patches = patches.permute(0, 2, 4, 1, 3, 5).flatten(3)  # [B, rows, columns, C * P * P]
        result = torch.nn.functional.linear(patches, weight.flatten(1), bias).permute(0, 3, 1, 2)
        if _channels_last(input) or _channels_last(weight):
            return result.contiguous(memory_format=torch.channels_last)
        return result.contiguous()

    return wrapped


def _channels_last(tensor: torch.Tensor) -> bool:
    """Whether its channels lie side by side, so that a convolution's result has them so, too."""
    in_order = tensor.is_contiguous()
    return not in_order and tensor.is_contiguous(memory_format=torch.channels_last)


def _any_kernel(attention):
    """Attention for which a script may choose a GPU's kernel: it is the CPU's in any case."""

    @functools.wraps(attention)
    def wrapped(*args, **kwargs):
        if torch.backends.cuda.math_sdp_enabled():
            return attention(*args, **kwargs)
        with sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]):
            return attention(*args, **kwargs)

    return wrapped


def _accumulate_in_float32(function):
    """Matrix products of 16-bit numbers, computed as tensor cores do.

    They multiply the 16-bit inputs exactly, add in float32 and round the result to 16 bits
    (NVIDIA, "Tensor Core GPU architecture" white papers). Many CPUs have no 16-bit arithmetic; on
    these, PyTorch's own 16-bit products are up to thirty times slower than float32. Operands of
    several types, and those that autocast leaves as they are (integers, complex numbers, float64),
    are left to PyTorch.
    """

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        out = kwargs.get("out")
        inputs = {key: value for key, value in kwargs.items() if key != "out"}
        half = _half_of(_operands([*args, *inputs.values()]), autocast=out is None)
        if half is None or (out is not None and out.dtype != half):
            return function(*args, **kwargs)
        dtype = half
        if isinstance(inputs.get("out_dtype"), torch.dtype):
            dtype = inputs.pop("out_dtype")
        elif args and isinstance(args[-1], torch.dtype):  # of mm and bmm
            *args, dtype = args

        def widen(value):
            if isinstance(value, (list, tuple)):
                return (list if isinstance(value, list) else tuple)(map(widen, value))
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                return value.to(half).float()
            return value

        with torch.autocast("cpu", enabled=False):
            result = function(*map(widen, args), **{key: widen(inputs[key]) for key in inputs})
        if isinstance(result, tuple):  # of a recurrent layer
            return tuple(part.to(dtype) for part in result)
        result = result.to(dtype)
        return result if out is None else torch.mul(result, 1, out=out)

    return wrapped


def _operands(values) -> list[torch.Tensor]:
    """The real numbers among a function's arguments, also those in lists."""
    found = []
    for value in values:
        if isinstance(value, (list, tuple)):
            found += _operands(value)
        elif isinstance(value, torch.Tensor) and value.is_floating_point():
            found.append(value)
    return found


def _half_of(operands: list[torch.Tensor], autocast: bool) -> torch.dtype | None:
    """The 16-bit type that a product of these is computed in; None if it is in no such type."""
    dtypes = {operand.dtype for operand in operands}
    if autocast and torch.is_autocast_enabled("cpu"):
        half = torch.get_autocast_dtype("cpu")
        return half if dtypes and half in HALF and dtypes <= {torch.float32, *HALF} else None
    return dtypes.pop() if len(dtypes) == 1 and dtypes <= {*HALF} else None


def _moments_in_bfloat16(fused_adam):
    """Adam's fused step, also for float32 parameters whose moments are bfloat16.

    A GPU's kernel reads such moments, computes in float32 and rounds what it writes
    (FusedAdamMathFunctorMP in PyTorch's fused_adam_utils.cuh). A CPU's cannot.
    """

    @functools.wraps(fused_adam)
    def wrapped(parameters, gradients, first, second, largest, steps, **options):
        moments = [*first, *second, *largest]
        if not moments or moments[0].dtype == parameters[0].dtype:
            return fused_adam(parameters, gradients, first, second, largest, steps, **options)
        wide = [moment.float() for moment in moments]
        count = len(first)
        three = wide[:count], wide[count : 2 * count], wide[2 * count :]
        fused_adam(parameters, gradients, *three, steps, **options)
        for moment, value in zip(moments, wide, strict=True):  # also FSDP2's, one by one
            moment.copy_(value)

    return wrapped
