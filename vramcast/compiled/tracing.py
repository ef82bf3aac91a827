"""Tensors without data, as Dynamo and AOTAutograd trace them.

Both have a FakeTensorMode of their own, beside the simulated GPU's, and know a GPU as "cuda". To
C++ code, its tensors are on a device of devices.LABELS there, too; what is traced must not be.
"""

import contextlib
from collections.abc import Callable

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from vramcast import compat
from vramcast.compat import FakeTensorMode, FunctionalTensor
from vramcast.device.devices import LABELS, Places

aten = torch.ops.aten
META = compat.private("torch._C:DispatchKey.Meta")
PLACES = {label: gpu for gpu, label in LABELS.items()}


def place(value: object) -> object:
    """A device as a script sees it; other values stay."""
    return PLACES.get(value, value) if type(value) is torch.device else value


def install(gpu: FakeTensorMode, places: Places) -> None:
    """Let what is traced be on "cuda", for the simulated GPU's mode."""
    compat.wrap(f"{compat.FAKE}:FakeTensorMode._dispatch_impl", _placed)
    compat.wrap(
        "torch.fx.experimental.proxy_tensor:ProxyTorchDispatchMode.__torch_dispatch__", _recorded
    )
    compat.wrap("torch.fx.experimental.proxy_tensor:unset_fake_temporarily", _unset_on_host)
    compat.wrap("torch._inductor.constant_folding:ConstantFolder.run_node", _on_host)
    compat.wrap("torch._dynamo.variables.optimizer:OptimizerVariable.call_method", _with_gpu(gpu))
    _leave_out(type(gpu))
    compat.take_over_inputs()
    _decompose()
    device = torch.Tensor.device.__get__
    FunctionalTensor.device = property(lambda tensor: place(device(tensor)))
    FunctionalTensor.is_cuda = property(lambda tensor: tensor.device.type == "cuda")
    FunctionalTensor.is_meta = property(lambda tensor: tensor.device.type == "meta")
    to = FunctionalTensor.to

    def label(value: object) -> object:
        if isinstance(value, (int, str, torch.device)) and type(value) is not bool:
            return LABELS.get(places[value], value)
        return value

    FunctionalTensor.to = lambda tensor, *args, **kwargs: to(
        tensor, *map(label, args), **{key: label(value) for key, value in kwargs.items()}
    )


def _leave_out(mode: type[FakeTensorMode]) -> None:
    """Let Dynamo compile nothing that is called while the simulated GPU computes an operator.

    It does so where it leaves a function out, but not what that calls: weak references, logging.
    """
    mode.__torch_dispatch__ = torch.compiler.disable(mode.__torch_dispatch__)


def _decompose() -> None:
    """Let composite operators consist of others while they are traced, as on "cuda".

    Some have a rule for shapes in Python. To the Python dispatcher (`resolve_key` in
    torch/_ops.py), that is a kernel for "meta", without a backward pass.
    """
    tables = compat.private("torch._decomp:global_decomposition_table").values()
    for op in {op for table in tables for op in table}:
        if isinstance(op, compat.OpOverload) and META in op.py_kernels and compat.composite(op):
            del op.py_kernels[META]
            op._dispatch_cache.clear()


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
        kwargs = {key: _host(value) for key, value in (kwargs or {}).items()}
        return func(*map(_host, args), **kwargs)


def _host(value: object) -> object:
    return torch.device("cpu") if type(value) is torch.device else value


def _on_host(run: Callable) -> Callable:
    def run_node(folder, node):
        with _Host():
            return run(folder, node)

    return run_node


def _unset_on_host(unset: Callable) -> Callable:
    """Without tensors that have no data, and on the host: numbers that are known while tracing."""

    @contextlib.contextmanager
    def unset_on_host():
        with unset() as found, _Host():
            yield found

    return unset_on_host


def _with_gpu(gpu: FakeTensorMode) -> Callable:
    """An optimizer whose step is compiled makes its state while it is traced: on the GPU."""

    def wrap(call: Callable) -> Callable:
        def called(variable, tx, name, args, kwargs):
            optimizer = variable.value
            if name != "_init_group" or not hasattr(optimizer, name):
                return call(variable, tx, name, args, kwargs)
            make = optimizer._init_group

            def made(*args, **kwargs):
                with gpu:
                    return make(*args, **kwargs)

            optimizer._init_group = made
            try:
                return call(variable, tx, name, args, kwargs)
            finally:
                del optimizer._init_group

        return called

    return wrap
