"""bitsandbytes' 4-bit weights and paged optimizer states, on tensors without numbers.

Most of its functions run unchanged. Replaced here are its class of 4-bit parameters (a tensor
without numbers has a class of its own already), places where it gives a tensor other data, and
paged memory, which CUDA's driver moves between host and GPU.
"""

import functools
from types import ModuleType

import torch

from vramcast.compat import FakeTensor
from vramcast.libraries.context import Context
from vramcast.when_imported import when_imported

PAGED = (
    "paged optimizer states: CUDA's driver moves them between host and GPU as there is room; they "
    "are counted on the host alone, as PyTorch does"
)


def install(context: Context) -> None:
    """Let bitsandbytes work on tensors without numbers."""
    make = torch.Tensor._make_subclass

    def make_subclass(cls, data, *args, **options):
        if not isinstance(data, FakeTensor):
            return make(cls, data, *args, **options)
        made = data.detach()
        made.__class__ = _of_both(cls)
        return made.requires_grad_(bool(args and args[0]))

    def modules(module: ModuleType) -> None:
        # under its own name, so that no other library's subclasses change
        module.torch = _Torch(torch, make_subclass)
        module.Params4bit._quantize = _quantize

    def functional(module: ModuleType) -> None:
        def get_paged(*shape, dtype=torch.float32, device=None):
            context.notes.append(PAGED)
            made = torch.empty(shape, dtype=dtype, device="cpu")
            made.is_paged, made.page_deviceid = True, 0
            return made

        quantize = module.quantize_4bit

        @functools.wraps(quantize)
        def quantize_and_note(*args, **options):
            context.watched.quantized = True
            return quantize(*args, **options)

        module.quantize_4bit = quantize_and_note
        module.get_paged = get_paged
        module.prefetch_tensor = module.fill = lambda *args, **options: None

    when_imported("bitsandbytes.nn.modules", modules)
    when_imported("bitsandbytes.functional", functional)


class _Torch(ModuleType):
    """The module torch, as bitsandbytes sees it: tensors of a subclass are made in another way."""

    def __init__(self, torch: ModuleType, make_subclass) -> None:
        super().__init__("torch")
        self._torch = torch

        class Tensor(torch.Tensor):
            _make_subclass = staticmethod(make_subclass)

        self.Tensor = Tensor

    def __getattr__(self, name: str):
        return getattr(self._torch, name)


@functools.cache
def _of_both(cls: type) -> type:
    """A class that is both: this kind of parameter, and a tensor without numbers."""
    data = torch.Tensor.data

    def keep(tensor, other) -> None:
        if other.shape != tensor.shape or other.dtype != tensor.dtype:
            raise TypeError(f"{cls.__name__} is given other data, which is not followed")

    def detach(tensor):
        made = torch.Tensor.detach(tensor)
        made.__class__ = type(tensor)
        vars(made).update(
            {key: value for key, value in vars(tensor).items() if key not in vars(made)}
        )
        return made

    own = {"data": property(data.__get__, keep), "detach": detach}
    return type(cls.__name__, (cls, FakeTensor), own)


def _quantize(weight, device):
    """Quantize a parameter in place, as the library does."""
    from bitsandbytes.functional import quantize_4bit

    codes, state = quantize_4bit(
        weight.data.to(device),
        blocksize=weight.blocksize,
        compress_statistics=weight.compress_statistics,
        quant_type=weight.quant_type,
        quant_storage=weight.quant_storage,
    )
    kept = {key: getattr(weight, key) for key in ("blocksize", "compress_statistics", "quant_type")}
    made = type(weight)(
        codes, False, state, quant_storage=weight.quant_storage, module=weight.module,
        bnb_quantized=True, **kept,
    )  # fmt: skip
    if weight.module is not None:
        weight.module.quant_state = state
    return made
