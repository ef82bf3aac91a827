"""A GPU without data: tensors on it have shape, precision and device, and no numbers.

Scripts see device "cuda". PyTorch's C++ code sees `LABEL` where it asks a tensor for its device,
because its autograd engine insists on a driver for "cuda" devices, and has none of that for others.
What the GPU's own rules decide is decided by them: autocast's lists, fused attention, and foreach
optimizers. Each number that is read from a tensor is 0 (1 where an optimizer reads its count of
steps), each truth value False.
"""

import contextlib
import functools
import importlib
import re
import weakref
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.distributed.tensor import DTensor
from torch.utils import _foreach_utils
from torch.utils._pytree import tree_leaves, tree_map_only

from prediction.gpus import Model
from prediction.remembered import NOTHING, Results
from prediction.tracker import Tracker

aten = torch.ops.aten
CUDA = torch.device("cuda:0")
META = torch.device("meta")
LABEL = torch.device("meta:1")
HALF = (torch.float16, torch.bfloat16)
PRODUCTS = {
    getattr(aten, name).default for name in ("mm", "addmm", "bmm", "baddbmm", "mv", "addmv")
}

SIZED = {aten.slice.Tensor, aten.arange.default, aten.arange.start, aten.zeros.default}
SIZED |= {aten.ones.default, aten.full.default}


class _Traits:
    """What is asked of an operator each time, which takes long: its hash is computed in Python."""

    __slots__ = ("direct", "product", "reads", "sized")

    def __init__(self, func) -> None:
        self.reads = func is aten._local_scalar_dense.default
        self.product = func in PRODUCTS
        self.sized = func in SIZED
        self.direct = (
            func in fake_tensor._DISPATCH_META_HANDLERS
            or func in fake_tensor._DISPATCH_HANDLE_DIRECTLY
        )


class Gpu(FakeTensorMode):
    """Every tensor is fake while this is entered; `tracker` books the storages."""

    def __init__(self, tracker: Tracker, workspace: int) -> None:
        """`workspace`: the bytes that cuBLAS takes for each thread that uses it."""
        super().__init__(allow_non_fake_inputs=True)
        self.tracker = tracker
        self.depth = 0  # operators that run inside of operators allocate nothing on a GPU
        self.workspace = workspace
        self.whole_numbers_read = False
        self.threads: set[bool] = set()  # with a workspace: the backward pass's, all others'
        self.results = Results(self)
        self.traits: dict[int, _Traits] = {}

    def dispatch(self, func, types, args=(), kwargs=None):
        traits = self.traits.get(id(func))
        if traits is None:
            traits = self.traits[id(func)] = _Traits(func)
        kwargs = kwargs or {}
        if kwargs and kwargs.get("device") == LABEL:
            kwargs = kwargs | {"device": CUDA}
        if traits.reads:
            return self.read(args[0])
        if traits.product and args[1].device.type == "cuda":
            backward = self.tracker.phase == "backward"
            if backward not in self.threads:
                self.threads.add(backward)
                self.tracker.workspace(self.workspace)
        result = self.result(func, types, args, kwargs, traits)
        empty = self.whole_numbers_read and traits.sized and result.numel() == 0
        if empty and (func is not aten.slice.Tensor or args[0].numel()):  # a number was the size
            raise fake_tensor.DynamicOutputShapeException(func)
        if self.depth == 0:
            self.tracker.book(result, func, args)
        return result

    def result(self, func, types, args, kwargs, traits):
        """What an operator returns."""
        key = None if traits.direct else self.results.key(func, args, kwargs)
        entry = None if key is None else self.results.find(key, func, args, kwargs)
        if entry is not None and entry is not NOTHING:
            return self.results.make(entry, args)
        self.depth += 1
        try:
            if entry is NOTHING:
                return self._dispatch_impl(func, types, args, kwargs)
            return super().dispatch(func, types, args, kwargs)
        finally:
            self.depth -= 1

    def read(self, tensor: torch.Tensor):
        """What is read from a tensor. Reading from the GPU waits for what it has to do."""
        if not (tensor.dtype.is_floating_point or tensor.dtype == torch.bool):
            self.whole_numbers_read = True
        if tensor.device.type == "cuda":
            self.tracker.wait(self.tracker.stream)
            return _number(tensor)
        # Adam divides by a number that depends on its count of steps, which is kept on the host
        return _number(tensor, 1 if self.tracker.phase == "optimizer step" else 0)


def _number(tensor: torch.Tensor, value: int = 0):
    if tensor.dtype == torch.bool:
        return False
    return float(value) if tensor.dtype.is_floating_point else value


def install(tracker: Tracker, model: Model, gpus: int) -> Gpu:
    """Let scripts find this many GPUs of a model. Returns the mode, not yet entered.

    Cannot be undone.
    """
    _replace_cuda_module(tracker, model, gpus)
    _relabel()
    _replace_autocast()
    _replace_attention()
    _read_zeros()
    _move_parameters()
    _skip_first_steps()
    optimizer = importlib.import_module("torch.optim.optimizer")  # a name that torch.optim hides
    for supported in (
        optimizer._foreach_supported_types,
        _foreach_utils._foreach_supported_types,
    ):
        supported.append(FakeTensor)
    torch.backends.mha.set_fastpath_enabled(False)
    resize = torch.UntypedStorage.resize_

    def resize_and_book(storage, size):
        result = resize(storage, size)
        tracker.resized(storage, storage.nbytes())
        return result

    torch.UntypedStorage.resize_ = resize_and_book
    FakeTensor.__deepcopy__ = _copy
    data = torch._C.TensorBase.data

    def set_data(tensor, other):
        data.__set__(tensor, other)
        if isinstance(other, FakeTensor):
            tensor.fake_device = other.fake_device

    FakeTensor.data = property(data.__get__, set_data)
    FakeTensor.record_stream = lambda tensor, stream: tracker.use(tensor, stream.number)
    return Gpu(tracker, model.workspace)


# ------------------------------------------------------------------------------------ the devices


def _relabel() -> None:
    """Answer C++ code that asks for a device, and Python code that compares devices."""

    def device(args):
        tensor = args[0]
        if tensor.fake_mode.in_kernel_invocation:
            return META
        return LABEL if tensor._fake_device.type == "cuda" else tensor._fake_device

    query = torch.ops.prim.device.default
    fake_tensor._DISPATCH_META_HANDLERS[query] = device
    dispatch = FakeTensor.__torch_dispatch__

    def torch_dispatch(cls, func, types, args=(), kwargs={}):  # noqa: B006
        return device(args) if func is query else dispatch(func, types, args, kwargs)

    FakeTensor.__torch_dispatch__ = classmethod(torch_dispatch)

    def mode_dispatch(mode, func, types, args=(), kwargs={}):  # noqa: B006
        return device(args) if func is query else mode.dispatch(func, types, args, kwargs)

    # set here, since a class's own would be wrapped for the compiler: seven of ten calls ask this
    Gpu.__torch_dispatch__ = mode_dispatch
    FakeTensor.is_cuda = property(lambda tensor: tensor.fake_device.type == "cuda")
    FakeTensor.is_meta = property(lambda tensor: device([tensor]) == META)
    for name in ("device", "is_cuda", "is_meta"):  # a sharded tensor is where its part is
        setattr(
            DTensor, name, property(lambda tensor, name=name: getattr(tensor._local_tensor, name))
        )
    FakeTensorMode.avoid_device_init = property(lambda mode: True)
    fake_tensor.init_gpu_context = lambda device: None
    to, cpu = torch.Tensor.to, torch.device("cpu")

    def relabelled(device):
        if isinstance(device, str) and device.startswith("cuda"):
            return LABEL
        if type(device) is int or (isinstance(device, torch.device) and device.type == "cuda"):
            return LABEL
        return device

    def to_labelled(tensor, *args, **kwargs):
        if isinstance(tensor, FakeTensor):
            args = tuple(map(relabelled, args))
            kwargs = {
                key: relabelled(value) if key == "device" else value
                for key, value in kwargs.items()
            }
        return to(tensor, *args, **kwargs)

    torch.Tensor.to = to_labelled
    torch.Tensor.cuda = lambda tensor, device=None, non_blocking=False, **_: tensor.to(CUDA)
    torch.Tensor.cpu = lambda tensor, **_: tensor.to(cpu)
    FakeTensor.pin_memory = lambda tensor, device=None: tensor.clone()
    FakeTensor.is_pinned = lambda tensor, device=None: True
    new = torch.Generator

    class Generator(new):
        def __new__(cls, device="cpu"):
            return new.__new__(cls)

    torch.Generator = Generator


def _move_parameters() -> None:
    """Let `Module.to` swap fake parameters, which no weak reference may watch meanwhile."""
    swap = torch.utils.swap_tensors

    def swap_unwatched(one, other):
        for tensor in (one, other):
            if isinstance(tensor, FakeTensor):
                tensor.fake_mode.fake_tensor_converter.meta_converter.tensor_memo.clear()
        swap(one, other)

    torch.utils.swap_tensors = swap_unwatched


def _skip_first_steps() -> None:
    """Let each GradScaler skip the first step, as is usual: it begins with too large a scale.

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


def _copy(tensor: torch.Tensor, memo: dict) -> torch.Tensor:
    """A deep copy, as of any other tensor. By itself, it would copy the mode as well, which ends in
    a corrupted heap.
    """
    if id(tensor) not in memo:
        copy = tensor.detach().clone()
        if isinstance(tensor, torch.nn.Parameter):
            copy = torch.nn.Parameter(copy, tensor.requires_grad)
        memo[id(tensor)] = copy.requires_grad_(tensor.requires_grad)
    return memo[id(tensor)]


def _read_zeros() -> None:
    """Let tensors without numbers be printed and handed to NumPy."""

    def zeros(tensor):
        kind = torch.float32 if tensor.dtype == torch.bfloat16 else tensor.dtype
        return np.zeros(tuple(tensor.shape), str(kind).removeprefix("torch."))

    FakeTensor.__format__ = lambda tensor, spec: (
        format(_number(tensor), spec) if tensor.dim() == 0 else repr(tensor)
    )
    FakeTensor.tolist = lambda tensor: zeros(tensor).tolist()
    FakeTensor.numpy = lambda tensor, **_: zeros(tensor)
    FakeTensor.__array__ = lambda tensor, dtype=None, **_: zeros(tensor)


# ------------------------------------------------------------------------------------ torch.cuda


class Stream:
    """A stream by its number; 0 is the default one."""

    tracker: Tracker
    count = 0

    def __init__(self, *args, **kwargs) -> None:
        Stream.count += 1
        self.number = Stream.count
        self.device = CUDA

    def synchronize(self) -> None:
        self.tracker.wait(self.number)

    def record_event(self, event=None):
        event = event or Event()
        event.record(self)
        return event

    def wait_stream(self, stream) -> None:
        pass

    wait_event = wait_stream

    def query(self) -> bool:
        return True


class Event:
    """A point in a stream."""

    def __init__(self, *args, **kwargs) -> None:
        self.stream = 0

    def record(self, stream=None) -> None:
        self.stream = Stream.tracker.stream if stream is None else stream.number

    def synchronize(self) -> None:
        Stream.tracker.wait(self.stream)

    def wait(self, stream=None) -> None:
        pass

    def query(self) -> bool:
        return True

    def elapsed_time(self, end) -> float:
        return 1.0  # milliseconds; nothing is timed


@contextlib.contextmanager
def _in_stream(stream):
    if stream is None:
        yield
        return
    outer, Stream.tracker.stream = Stream.tracker.stream, stream.number
    try:
        yield
    finally:
        Stream.tracker.stream = outer


def _current_stream(*args):
    stream = Stream.__new__(Stream)
    stream.number, stream.device = Stream.tracker.stream, CUDA
    return stream


def _replace_cuda_module(tracker: Tracker, model: Model, gpus: int) -> None:
    Stream.tracker = tracker
    name, total, capability = model.name, model.memory, model.capability
    properties = SimpleNamespace(
        name=name, total_memory=total, major=capability[0], minor=capability[1],
        multi_processor_count=model.multiprocessors, gcnArchName="",
    )  # fmt: skip
    fixed = {
        "is_available": True, "device_count": gpus, "current_device": 0, "is_initialized": False,
        "get_device_name": name, "get_device_properties": properties,
        "get_device_capability": capability, "is_bf16_supported": model.bfloat16,
        "_lazy_init": None, "init": None, "set_device": None,
        "reset_peak_memory_stats": None, "manual_seed": None, "manual_seed_all": None,
        "set_rng_state": None, "is_current_stream_capturing": False, "ipc_collect": None,
        "mem_get_info": (total, total), "reset_max_memory_allocated": None,
    }  # fmt: skip
    for key, value in fixed.items():
        setattr(torch.cuda, key, functools.partial(_answer, value))
    torch.cuda.get_rng_state = lambda *args: torch.empty(16, dtype=torch.uint8, device="cpu")
    torch.cuda.Stream, torch.cuda.Event = Stream, Event
    torch.cuda.stream = _in_stream
    torch.cuda.current_stream = torch.cuda.default_stream = _current_stream
    torch.cuda.synchronize = lambda *args: tracker.wait(None)
    torch.cuda.empty_cache = tracker.empty
    torch.cuda.device = lambda device: contextlib.nullcontext()
    torch.accelerator.is_available = functools.partial(_answer, True)
    torch.accelerator.current_accelerator = functools.partial(_answer, torch.device("cuda"))


def _answer(value, *args, **kwargs):
    return value


# ----------------------------------------------------------------- autocast, attention, optimizers


def autocast_lists() -> dict[str, list[tuple[str, str]]]:
    """The operators that autocast handles, by rule, as this PyTorch's own header lists them."""
    header = Path(torch.__file__).parent / "include" / "ATen" / "autocast_mode.h"
    lists = {}
    for rule in ("LOWER_PRECISION_FP", "FP32", "FP32_SET_OPT_DTYPE", "PROMOTE"):
        macro = re.search(
            rf"#define AT_FORALL_{rule}\(_\)((?:.*\\\n)+.*\n)", header.read_text()
        ).group(1)
        lists[rule] = re.findall(r"_\((\w+)(?:, (\w+))?\)", macro)
    return lists


def _replace_autocast() -> None:
    """Autocast's casts for "cuda": by the same lists as PyTorch's C++ code, which asks the device.

    As there, a float32 parameter is cast once for as long as the outermost autocast lasts.
    """
    key = torch._C.DispatchKey.AutocastCUDA
    below = torch._C.DispatchKeySet(key)
    cache: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
    clear = torch.clear_autocast_cache

    def clear_both():
        cache.clear()
        clear()

    torch.clear_autocast_cache = clear_both

    def cast(tensor, dtype):
        if not (tensor.is_cuda and tensor.is_floating_point()) or tensor.dtype == torch.float64:
            return tensor
        if tensor.dtype == dtype:
            return tensor
        once = (
            tensor.dtype == torch.float32 and dtype in HALF and tensor.requires_grad
            and tensor.is_leaf and tensor._base is None and torch.is_autocast_cache_enabled()
        )  # fmt: skip
        if not once:
            return tensor.to(dtype)
        if id(tensor) not in cache:
            cache[id(tensor)] = tensor, tensor.to(dtype)
        return cache[id(tensor)][1]

    def wider(tensors):
        kinds = {t.dtype for t in tensors if t.is_cuda and t.is_floating_point()}
        return torch.float32 if torch.float32 in kinds else torch.get_autocast_dtype("cuda")

    def kernel(op, rule):
        def run(*args, **kwargs):
            with torch._C._ExcludeDispatchKeyGuard(below):
                leaves = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
                dtype = torch.float32
                if rule == "LOWER_PRECISION_FP":
                    dtype = torch.get_autocast_dtype("cuda")
                elif rule == "PROMOTE":
                    dtype = wider(leaves)
                elif rule == "FP32_SET_OPT_DTYPE" and kwargs.get("dtype") is not None:
                    return op(*args, **kwargs)
                args, kwargs = tree_map_only(
                    torch.Tensor, lambda tensor: cast(tensor, dtype), (args, kwargs)
                )
                return op(*args, **kwargs)

        return run

    library = torch.library.Library("aten", "IMPL")
    for rule, names in autocast_lists().items():
        for name, overload in names:
            packet = getattr(aten, name, None)
            op = getattr(packet, overload or "default", None) if packet else None
            if op is not None:
                library.impl(op, kernel(op, rule), "AutocastCUDA", allow_override=True)
    _replace_autocast.library = library  # its kernels last as long as it does


def _replace_attention() -> None:
    """Choose the kernel of scaled dot product attention as PyTorch does on a GPU.

    Flash attention takes 16-bit inputs without a mask, the memory-efficient kernel the rest (see
    `sdp_utils.cpp`). Both need equal head sizes of queries, keys and values.
    """
    composite = aten.scaled_dot_product_attention.default.decompose

    def attention(
        query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, *, scale=None,
        enable_gqa=False,
    ):  # fmt: skip
        options = {"scale": scale}
        plain = query.dim() == 4 and not enable_gqa and query.shape[-1] == value.shape[-1]
        grad = torch.is_grad_enabled() and any(t.requires_grad for t in (query, key, value))
        flash = query.dtype in HALF and attn_mask is None and query.shape[-1] <= 256
        if plain and flash:
            width = query.shape[-1]
            pad = -width % 8
            if pad:
                options["scale"] = scale or width**-0.5
                query, key, value = (F.pad(t, (0, pad)) for t in (query, key, value))
            out = aten._scaled_dot_product_flash_attention(
                query, key, value, dropout_p, is_causal, False, **options
            )[0]
            return out[..., :width] if pad else out
        if plain:
            if attn_mask is not None and attn_mask.dtype == torch.bool:
                attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype).masked_fill_(
                    attn_mask, 0.0
                )
            if attn_mask is not None:
                attn_mask = attn_mask.expand(*query.shape[:3], key.shape[2])
            return aten._scaled_dot_product_efficient_attention(
                query, key, value, attn_mask, grad, dropout_p, is_causal, **options
            )[0]
        return composite(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )

    library = torch.library.Library("aten", "IMPL")
    for key in ("AutogradCUDA", "CUDA"):
        library.impl("scaled_dot_product_attention", attention, key, allow_override=True)
    _replace_attention.library = library
