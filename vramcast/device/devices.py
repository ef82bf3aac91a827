"""The devices of tensors without data: "cuda" or the CPU for a script, `LABEL` for C++ code.

PyTorch's C++ code sees the device `LABEL` in the place of "cuda": its autograd engine calls CUDA's
driver for tensors on "cuda", and needs none for this label.
"""

import torch
from torch.distributed.tensor import DTensor

from vramcast import compat
from vramcast.compat import FAKE_DEVICE, FakeTensor, FakeTensorMode
from vramcast.memory.tracker import Tracker

CUDA = torch.device("cuda:0")
META = torch.device("meta")
LABEL = torch.device("meta:1")


def install(mode_type: type[FakeTensorMode], tracker: Tracker) -> None:
    """Let tensors without data be on "cuda", as a script sees it, and be moved and copied there."""
    _relabel(mode_type, tracker)
    _move_parameters()
    FakeTensor.__deepcopy__ = _copy
    resize = torch.UntypedStorage.resize_

    def resize_and_book(storage, size):
        result = resize(storage, size)
        tracker.resized(storage, storage.nbytes())
        return result

    torch.UntypedStorage.resize_ = resize_and_book
    data = compat.data

    def set_data(tensor, other):
        data.__set__(tensor, other)
        if isinstance(other, FakeTensor):
            tensor.fake_device = other.fake_device

    FakeTensor.data = property(data.__get__, set_data)
    FakeTensor.record_stream = lambda tensor, stream: tracker.use(tensor, stream.number)


class _AsCuda:
    """A context in which C++ code sees "cuda"; not for operators that autograd records."""

    now = False

    def __enter__(self) -> None:
        self.now = True

    def __exit__(self, *exception) -> None:
        self.now = False


AS_CUDA = _AsCuda()


def _relabel(mode_type: type[FakeTensorMode], tracker: Tracker) -> None:
    """Answer C++ code that asks for a tensor's device, and Python code that compares devices."""

    def device(args):
        tensor = args[0]
        if tensor.fake_mode.in_kernel_invocation:
            return META
        place = tensor.__dict__[FAKE_DEVICE]
        return place if place.type != "cuda" or AS_CUDA.now else LABEL

    query = torch.ops.prim.device.default
    compat.META_HANDLERS[query] = device
    dispatch = FakeTensor.__torch_dispatch__

    def torch_dispatch(cls, func, types, args=(), kwargs={}):  # noqa: B006
        return device(args) if func is query else dispatch(func, types, args, kwargs)

    FakeTensor.__torch_dispatch__ = classmethod(torch_dispatch)

    def mode_dispatch(mode, func, types, args=(), kwargs={}):  # noqa: B006
        return device(args) if func is query else mode.dispatch(func, types, args, kwargs)

    # set here, since a class's own would be wrapped for the compiler: seven of ten calls ask this
    mode_type.__torch_dispatch__ = mode_dispatch
    FakeTensor.is_cuda = property(lambda tensor: tensor.fake_device.type == "cuda")
    FakeTensor.is_meta = property(lambda tensor: device([tensor]) == META)
    for name in ("device", "is_cuda", "is_meta"):  # a sharded tensor is where its part is
        setattr(
            DTensor, name, property(lambda tensor, name=name: getattr(tensor._local_tensor, name))
        )
    compat.start_no_gpu()
    to, cpu = torch.Tensor.to, torch.device("cpu")

    def relabelled(device):
        if isinstance(device, str) and device.startswith("cuda"):
            return LABEL
        if type(device) is int or (isinstance(device, torch.device) and device.type == "cuda"):
            return LABEL
        return device

    def to_labelled(tensor, *args, **kwargs):
        if isinstance(tensor, (FakeTensor, DTensor)):
            args = tuple(map(relabelled, args))
            kwargs = {
                key: relabelled(value) if key == "device" else value
                for key, value in kwargs.items()
            }
        return to(tensor, *args, **kwargs)

    def is_pinned(tensor, device=None):
        storage = tracker.find(tensor)
        return storage is not None and storage.pinned

    def pin_memory(tensor, device=None):
        if is_pinned(tensor):
            return tensor
        copy = tensor.clone()
        tracker.pin(copy)
        return copy

    torch.Tensor.to = to_labelled
    torch.Tensor.cuda = lambda tensor, device=None, non_blocking=False, **_: tensor.to(CUDA)
    torch.Tensor.cpu = lambda tensor, **_: tensor.to(cpu)
    FakeTensor.pin_memory = pin_memory
    FakeTensor.is_pinned = is_pinned
    new = torch.Generator

    class Generator(new):
        def __new__(cls, device="cpu"):
            return new.__new__(cls)

    torch.Generator = Generator


def _move_parameters() -> None:
    """Let `Module.to` swap parameters without data, which no weak reference may watch meanwhile.

    Ordinary parameters get other data instead of being swapped, and keep their hooks. A swap would
    lose the hooks in a tensor's C++ part, so they are registered anew.
    """
    swap = torch.utils.swap_tensors

    def swap_unwatched(one, other):
        for tensor in (one, other):
            if isinstance(tensor, FakeTensor):
                converter = tensor.fake_mode.fake_tensor_converter
                converter.meta_converter.tensor_memo.clear()
                if tensor.constant is not None:  # made of a number, as torch.tensor(6.0)
                    converter.invalidate_constant_aliases(tensor.constant)
        swap(one, other)
        if isinstance(
            one, FakeTensor
        ):  # on a GPU a parameter stays itself, with what was set on it
            vars(one).update({key: vars(other)[key] for key in vars(other).keys() - vars(one)})
        for hooks in ("_backward_hooks", "_post_accumulate_grad_hooks"):
            for tensor in (one, other):
                setattr(tensor, hooks, getattr(tensor, hooks))

    torch.utils.swap_tensors = swap_unwatched


def _copy(tensor: torch.Tensor, memo: dict) -> torch.Tensor:
    """A deep copy of a tensor without data, like that of any other tensor.

    PyTorch's own would copy the mode with it, which ends in a corrupted heap.
    """
    if id(tensor) not in memo:
        copy = tensor.detach().clone()
        if isinstance(tensor, torch.nn.Parameter):
            copy = torch.nn.Parameter(copy, tensor.requires_grad)
        memo[id(tensor)] = copy.requires_grad_(tensor.requires_grad)
    return memo[id(tensor)]
