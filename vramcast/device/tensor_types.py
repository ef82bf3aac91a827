"""The old names of types, such as `torch.cuda.FloatTensor`: made, asked for, and moved to."""

import torch

from vramcast.compat import FakeTensor

CUDA = torch.device("cuda")
NAMES = {
    "FloatTensor": torch.float32, "DoubleTensor": torch.float64, "HalfTensor": torch.float16,
    "BFloat16Tensor": torch.bfloat16, "LongTensor": torch.int64, "IntTensor": torch.int32,
    "ShortTensor": torch.int16, "CharTensor": torch.int8, "ByteTensor": torch.uint8,
    "BoolTensor": torch.bool,
}  # fmt: skip


class _OnCuda(type):
    """The type of such a name: `isinstance` asks for the data type and the device."""

    dtype: torch.dtype

    def __instancecheck__(cls, value) -> bool:
        return isinstance(value, torch.Tensor) and value.is_cuda and value.dtype is cls.dtype

    def __call__(cls, *given, device=None) -> torch.Tensor:
        """A tensor of these sizes, without values, or of this data (torch/csrc's legacy_new)."""
        (first, *rest) = given or (0,)
        if rest or isinstance(first, (int, torch.Size)):
            return torch.empty(*given or (0,), dtype=cls.dtype, device=CUDA)
        if isinstance(first, torch.Tensor):
            return first.to(CUDA, cls.dtype)
        return torch.tensor(first, dtype=cls.dtype, device=CUDA)


def install() -> None:
    """Let a script use these names as it may on a GPU, in `Tensor.type` as well."""
    kinds = {}
    for name, dtype in NAMES.items():
        made = _OnCuda(name, (), {"dtype": dtype})
        setattr(torch.cuda, name, made)
        kinds[made] = kinds[f"torch.cuda.{name}"] = (CUDA, dtype)
        kinds[getattr(torch, name)] = kinds[f"torch.{name}"] = (torch.device("cpu"), dtype)
    original = torch.Tensor.type
    told = {dtype: name for name, dtype in NAMES.items()}

    def of_type(tensor, dtype=None, non_blocking=False, **options):
        if not isinstance(tensor, FakeTensor) and dtype is not None and dtype not in kinds:
            return original(tensor, dtype, non_blocking, **options)
        if dtype is None:
            return f"torch.{'cuda.' * tensor.is_cuda}{told.get(tensor.dtype, tensor.dtype)}"
        return tensor.to(*kinds[dtype]) if dtype in kinds else tensor.to(dtype)

    torch.Tensor.type = of_type
