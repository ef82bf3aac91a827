"""Tensors without data, as Dynamo and AOTAutograd trace them.

Both have a FakeTensorMode of their own, beside the simulated GPU's, and know a GPU as "cuda". To
C++ code, its tensors are on a device of devices.LABELS there, too; what is traced must not be.
"""

from collections.abc import Callable

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from vramcast import compat
from vramcast.compat import FakeTensorMode, FunctionalTensor
from vramcast.device.devices import LABELS

aten = torch.ops.aten
PLACES = {label: gpu for gpu, label in LABELS.items()}


def place(value: object) -> object:
    """A device as a script sees it; other values stay."""
    return PLACES.get(value, value) if type(value) is torch.device else value


def install() -> None:
    """Let what is traced be on "cuda"."""
    compat.wrap(f"{compat.FAKE}:FakeTensorMode._dispatch_impl", _placed)
    compat.wrap("torch.fx.experimental.proxy_tensor:ProxyTorchDispatchMode.__torch_dispatch__", _recorded)
    compat.wrap("torch._inductor.constant_folding:ConstantFolder.run_node", _on_host)
    device = torch.Tensor.device.__get__
    FunctionalTensor.device = property(lambda tensor: place(device(tensor)))
    FunctionalTensor.is_cuda = property(lambda tensor: tensor.device.type == "cuda")
    FunctionalTensor.is_meta = property(lambda tensor: tensor.device.type == "meta")


def _placed(dispatch: Callable) -> Callable:
    """The shapes of an operator's results, in a mode that is not the simulated GPU's.

    `torch.tensor(…, device="cuda")` calls `to` below autograd. It would be computed for real.
    """

    def dispatched(mode, func, types, args, kwargs):
        if type(mode) is FakeTensorMode:
            if func is aten.to.dtype_layout:
                func = aten._to_copy.default
                kwargs = {key: value for key, value in kwargs.items() if key != "copy"}
            args = tuple(map(place, args))
            kwargs = {key: place(value) for key, value in kwargs.items()}
        return dispatch(mode, func, types, args, kwargs)

    return dispatched


def _recorded(dispatch: Callable) -> Callable:
    """An operator that is recorded in a graph."""

    def dispatched(mode, func, types, args=(), kwargs=None):
        kwargs = {key: place(value) for key, value in (kwargs or {}).items()}
        return dispatch(mode, func, types, tuple(map(place, args)), kwargs)

    return dispatched


class _Host(TorchDispatchMode):
    """Constants that are computed while a graph is simplified are on the host."""

    @classmethod
    def is_infra_mode(cls) -> bool:
        return True

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if kwargs.get("device") is not None:
            kwargs["device"] = torch.device("cpu")
        return func(*args, **kwargs)


def _on_host(run: Callable) -> Callable:
    def run_node(folder, node):
        with _Host():
            return run(folder, node)

    return run_node
