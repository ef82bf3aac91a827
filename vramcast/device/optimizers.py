"""How optimizers, and gradient scalers, take their steps on a GPU."""

import weakref
from collections.abc import Callable

from vramcast import compat
from vramcast.device.devices import LABELS


GPUS = {label: gpu for gpu, label in LABELS.items()}


def install() -> None:
    """Let optimizers work on lists of tensors (foreach), and scalers skip a first step."""
    for supported in compat.foreach_types():
        supported.append(compat.FakeTensor)
    compat.wrap(compat.GROUPED, _on_cuda)
    compat.wrap(compat.SCALER_STEP, _not_the_first)


def _on_cuda(group: Callable) -> Callable:
    """Let groups of tensors on a GPU be called so, by which lists of them are worked on."""

    def grouped(*args) -> dict:
        return {
            (GPUS.get(device, device), dtype): found
            for (device, dtype), found in group(*args).items()
        }

    return grouped


def _not_the_first(take: Callable) -> Callable:
    """Let each GradScaler skip its first step, as it usually does: its first scale is too large.

    "The default init_scale is intended to be larger than the network initially needs" (its author:
    discuss.pytorch.org/t/75756). The order matters to the allocator's segments.
    """
    begun = weakref.WeakSet()

    def maybe_take(scaler, *args, **kwargs):
        if scaler in begun:
            return take(scaler, *args, **kwargs)
        begun.add(scaler)

    return maybe_take
