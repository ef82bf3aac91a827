"""accelerate: the results of all ranks have one size, and tensors are told apart by addresses."""

import functools
from collections.abc import Callable
from types import ModuleType

from torch.nn import Parameter

from vramcast.compat import FakeTensor
from vramcast.libraries.context import Context
from vramcast.when_imported import when_imported


def install(context: Context) -> None:
    """Pad nothing, send no random state between ranks; let models be spread over devices."""
    when_imported("accelerate.utils.operations", _operations)
    when_imported("accelerate.utils.random", _random)
    when_imported("accelerate.big_modeling", _dispatch)
    when_imported("accelerate.hooks", _hooks)
    when_imported("accelerate.utils.modeling", _modeling)


def _operations(module: ModuleType) -> None:
    module.pad_across_processes = lambda tensor, *args, **options: tensor


def _random(module: ModuleType) -> None:
    """Ranks draw the same order of samples, of which this one is the first: no state is sent."""
    module.synchronize_rng_state = lambda *args, **options: None


def _dispatch(module: ModuleType) -> None:
    module.dispatch_model = _with_addresses(module.dispatch_model)


def _hooks(module: ModuleType) -> None:
    hook = module.AlignDevicesHook
    for name in ("init_hook", "pre_forward", "post_forward"):
        setattr(hook, name, _with_addresses(getattr(hook, name)))


def _modeling(module: ModuleType) -> None:
    """A parameter without data has a class of its own, of which accelerate would make another."""

    def class_of(value) -> type:
        found = type(value)
        return Parameter if found is FakeTensor and isinstance(value, Parameter) else found

    module.type = class_of


def _with_addresses(function: Callable) -> Callable:
    """The function, which finds weights that are used twice by their addresses.

    Tensors without data have none, and are told apart by their storages meanwhile.
    """

    @functools.wraps(function)
    def called(*args, **kwargs):
        outer = vars(FakeTensor).get("data_ptr")
        FakeTensor.data_ptr = _address
        try:
            return function(*args, **kwargs)
        finally:
            if outer is None:
                del FakeTensor.data_ptr
            else:
                FakeTensor.data_ptr = outer

    return called


def _address(tensor: FakeTensor) -> int:
    return tensor.untyped_storage()._cdata + tensor.storage_offset() * tensor.element_size()
