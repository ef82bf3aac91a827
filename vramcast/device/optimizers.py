"""How optimizers, and gradient scalers, take their steps on a GPU."""

import importlib
import weakref

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils import _foreach_utils


def install() -> None:
    """Let optimizers work on lists of tensors (foreach), and scalers skip a first step."""
    optimizer = importlib.import_module("torch.optim.optimizer")  # a name that torch.optim hides
    for supported in (
        optimizer._foreach_supported_types,
        _foreach_utils._foreach_supported_types,
    ):
        supported.append(FakeTensor)
    _skip_first_steps()


def _skip_first_steps() -> None:
    """Let each GradScaler skip its first step, as it usually does: its first scale is too large.

    "The default init_scale is intended to be larger than the network initially needs" (its author:
    discuss.pytorch.org/t/75756). The order matters to the allocator's segments.
    """
    take = torch.amp.GradScaler._maybe_opt_step
    begun = weakref.WeakSet()

    def maybe_take(scaler, *args, **kwargs):
        if scaler in begun:
            return take(scaler, *args, **kwargs)
        begun.add(scaler)

    torch.amp.GradScaler._maybe_opt_step = maybe_take
