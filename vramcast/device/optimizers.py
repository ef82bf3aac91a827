"""How optimizers, and gradient scalers, take their steps on a GPU."""

import functools
import weakref
from collections.abc import Callable

from vramcast import compat
from vramcast.device.devices import LABELS
from vramcast.operators import registry

GPUS = {label: gpu for gpu, label in LABELS.items()}
# numbers on the host that an optimizer reads: NAdam divides by `1 - mu_product`, and RAdam takes
# more once it rectifies, after its first steps
READ = {"NAdam": ("mu_product", 0.5), "RAdam": ("step", 10)}
FUSED = ("sgd", "adagrad", "adam", "adamw")


def install() -> None:
    """Let optimizers work on lists of tensors (foreach), and scalers skip a first step."""
    for supported in compat.foreach_types():
        supported.append(compat.FakeTensor)
    compat.wrap(compat.GROUPED, _on_cuda)
    compat.wrap(compat.SCALER_STEP, _not_the_first)
    for name, (key, value) in READ.items():
        compat.wrap(f"torch.optim:{name}._init_group", functools.partial(_reads, key, value))
    for name in FUSED:  # which change their arguments alone; PyTorch has some of these rules
        for overload in ("", ".tensor_lr"):
            registry.shape(f"_fused_{name}_{overload}", lambda *args, **options: None)


def _reads(key: str, value: float, init: Callable) -> Callable:
    """Let an optimizer read this number from what its state has under a key."""

    def init_group(optimizer, group, params, *args, **kwargs):
        result = init(optimizer, group, params, *args, **kwargs)
        for parameter in params:
            optimizer.state[parameter][key].known_number = value
        return result

    return init_group


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
