"""The devices of tensors without data: a GPU or the CPU for a script, a label for C++ code.

PyTorch's C++ code sees a device of `LABELS` in the place of a GPU: its autograd engine calls CUDA's
driver for tensors on "cuda", and needs none for these labels. Each GPU has its own, so that C++
code sees which tensors are together.
"""

import functools
from collections.abc import Callable

import torch
from torch.distributed.tensor import DTensor

from vramcast import compat
from vramcast.compat import FAKE_DEVICE, FakeTensor, FakeTensorMode
from vramcast.memory.storages import GPUS as MOST
from vramcast.memory.tracker import Tracker

CUDA, META = torch.device("cuda"), torch.device("meta")
GPUS = [torch.device("cuda", number) for number in range(MOST)]  # a label's has to be below 128
LABELS = {gpu: torch.device("meta", gpu.index + 1) for gpu in GPUS}  # what C++ code sees


class Places(dict):
    """Where a device is, as a script or C++ code names it: one of GPUS, or the device itself.

    `"cuda"` without a number is the current GPU, which the tracker knows.
    """

    def __init__(self, tracker: Tracker, gpus: int) -> None:
        self.tracker, self.gpus = tracker, gpus
        for gpu in GPUS[:gpus]:
            self[gpu] = self[LABELS[gpu]] = gpu
        self.choose(0)

    def __missing__(self, device: torch.device | str | int) -> torch.device:
        if type(device) is int:
            return self[torch.device("cuda", device)]
        if isinstance(device, str):
            return self[torch.device(device)]
        if device.type == "cuda":
            have = f"are {self.gpus} GPUs" if self.gpus > 1 else "is 1 GPU"
            raise RuntimeError(
                f"CUDA error: invalid device ordinal: {device}, where there {have} (--gpus N "
                "says how many)"
            )
        return device

    def index(self, device: torch.device | str | int | None = None) -> int:
        """The number of a GPU; None: of the current one.

        Raises RuntimeError if there is no such GPU, and ValueError for another device.
        """
        place = self[CUDA if device is None else device]
        if place.type != "cuda":
            raise ValueError(f"Expected a cuda device, but got: {device}")
        return place.index

    def choose(self, gpu: int) -> None:
        """Make a GPU the current one."""
        self[CUDA] = self[GPUS[gpu]]
        self.tracker.gpu = gpu


def install(mode_type: type[FakeTensorMode], tracker: Tracker, places: Places) -> None:
    """Let tensors without data be on a GPU, as a script sees it, and be moved and copied there."""
    _relabel(mode_type, tracker, places)
    _number(places)
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


def _relabel(mode_type: type[FakeTensorMode], tracker: Tracker, places: Places) -> None:
    """Answer C++ code that asks for a tensor's device, and Python code that compares devices."""

    def device(args):
        tensor = args[0]
        if tensor.fake_mode.in_kernel_invocation:
            return META
        place = tensor.__dict__[FAKE_DEVICE]
        return place if AS_CUDA.now else LABELS.get(place, place)

    query, row = torch.ops.prim.device.default, torch.ops.aten.select.int
    compat.META_HANDLERS[query] = device
    dispatch = FakeTensor.__torch_dispatch__

    def torch_dispatch(cls, func, types, args=(), kwargs={}):  # noqa: B006
        if func is query:
            return device(args)
        if func is row and type(args[0]) is FakeTensor and len(types) == 1:
            mode = args[0].fake_mode  # outside of it, as data sets' rows are taken: the way is long
            if not mode.in_kernel_invocation:
                return mode.dispatch(func, types, args, kwargs)
        return dispatch(func, types, args, kwargs)

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
    compat.refuse_in_words()
    to, cpu = torch.Tensor.to, torch.device("cpu")

    def relabelled(device):
        if type(device) is int or isinstance(device, (str, torch.device)):
            return LABELS.get(places[device], device)
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
    torch.Tensor.cuda = lambda tensor, device=None, non_blocking=False, **_: tensor.to(
        CUDA if device is None else device
    )
    torch.Tensor.cpu = lambda tensor, **_: tensor.to(cpu)
    FakeTensor.pin_memory = pin_memory
    FakeTensor.is_pinned = is_pinned
    new = torch.Generator

    class Generator(new):
        def __new__(cls, device="cpu"):
            return new.__new__(cls)

    torch.Generator = Generator


def _number(places: Places) -> None:
    """Let functions find the right one of several GPUs whose C++ code takes the first one.

    That code asks the driver for the current GPU before it makes a tensor.
    """

    def get_device(tensor) -> int:
        index = tensor.device.index
        return -1 if index is None else index

    FakeTensor.get_device = get_device
    torch.get_device = lambda input: input.get_device()
    if places.gpus == 1:
        return
    for name in ("new", "new_tensor"):
        setattr(FakeTensor, name, _beside(getattr(torch.Tensor, name)))
    compat.constructors()  # which asks for these functions, and remembers them
    for name in ("tensor", "as_tensor", "asarray"):
        setattr(torch, name, _placed(places, getattr(torch, name)))


def _beside(make: Callable) -> Callable:
    """A method that makes a tensor on its own tensor's device if it is told none."""

    @functools.wraps(make)
    def made(tensor, *args, device=None, **kwargs):
        return make(tensor, *args, device=tensor.device if device is None else device, **kwargs)

    return made


def _placed(places: Places, make: Callable) -> Callable:
    """A function whose `device="cuda"` is the current GPU, also where that is the default."""

    @functools.wraps(make)
    def made(*args, device=None, **kwargs):
        device = compat.default_device() if device is None else device
        return make(*args, device=None if device is None else places[device], **kwargs)

    return made


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
    apply = torch.nn.Module._apply

    @functools.wraps(apply)
    def without_results(module, *args, **kwargs):
        """What was computed of parameters, as by `weight_norm`, would hold them: no swap then."""
        own = vars(module)
        tensors = [name for name in own if isinstance(own[name], FakeTensor)]
        for name in tensors:
            if own[name].grad_fn is not None:  # it is computed anew before it is used
                setattr(module, name, own[name].detach())
        return apply(module, *args, **kwargs)

    torch.nn.Module._apply = without_results


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
