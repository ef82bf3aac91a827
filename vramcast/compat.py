"""PyTorch's versions: which this package knows, and what differs between them.

All private names of PyTorch that differ between these versions, or may in the next one, are touched
here alone. Others ask this module, also for the rules that have changed. (Left where they are used:
`torch.utils._pytree` and `_python_dispatch`, and attributes such as an operator's `_schema`, which
are the same in all versions.)

What each version does was read in the packages of 2.9.1, 2.11.0, 2.14.1 and 2.15.0: in their Python
files and headers, and for C++ in the repository at the commit of the version, or in the messages
that the compiled library holds where the repository was not at hand.
"""

import contextlib
import functools
import importlib
import os
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType

import torch

SUPPORTED = ((2, 9), (2, 11), (2, 14), (2, 15))  # as they were tried, from the oldest to the newest
TRIED = f"tried are {', '.join(f'{major}.{minor}' for major, minor in SUPPORTED)}"


class Unsupported(ImportError):
    """This package does not work with the installed PyTorch; the message is a whole sentence."""


def parsed(version: str) -> tuple[int, int]:
    """The first two numbers of a version such as "2.14.1+cu130"."""
    major, minor = re.match(r"(\d+)\.(\d+)", version).groups()
    return int(major), int(minor)


def check(version: str = torch.__version__) -> str | None:
    """None if a version was tried; else a note for the answer.

    A refusal is better than a wrong answer, but a version that has all private names may well be
    right, so others than the tried ones only have to say so. Raises Unsupported for a version older
    than the oldest.
    """
    if parsed(version) < SUPPORTED[0]:
        raise Unsupported(
            f"this is PyTorch {version}, and the oldest that is supported is "
            f"{'.'.join(map(str, SUPPORTED[0]))} ({TRIED})"
        )
    if parsed(version) not in SUPPORTED:
        return f"this is PyTorch {version}, whose rules may be others ({TRIED})"
    return None


def private(*paths: str) -> object:
    """The first of these names that there is; each is "module:attribute.attribute".

    Raises Unsupported if there is none of them.
    """
    for path in paths:
        module, _, names = path.partition(":")
        try:
            found = importlib.import_module(module)
            for name in names.split("."):
                found = getattr(found, name)
        except (ImportError, AttributeError):
            continue
        return found
    name = paths[0].replace(":", ".")
    raise Unsupported(f"this PyTorch ({torch.__version__}) has no {name}; {TRIED}")


def owner(path: str) -> tuple[object, str]:
    """Where a private name is kept, and the name, to put something else there.

    Raises Unsupported if there is no such name.
    """
    private(path)
    module, _, names = path.partition(":")
    place, _, name = names.rpartition(".")
    return (private(f"{module}:{place}") if place else importlib.import_module(module)), name


def wrap(path: str, wrapper: Callable[[Callable], Callable]) -> None:
    """Put `wrapper(function)` in the place of a private function, which it is given.

    Raises Unsupported if there is no such function.
    """
    place, name = owner(path)
    setattr(place, name, wrapper(getattr(place, name)))


VERSION = parsed(torch.__version__)
NOTE = check()


# ------------------------------------------------------------------------ tensors without data

FAKE = "torch._subclasses.fake_tensor"
TensorBase = private("torch._C:TensorBase")
FakeTensor = private(f"{FAKE}:FakeTensor")
FakeTensorMode = private(f"{FAKE}:FakeTensorMode")
FunctionalTensor = private("torch._subclasses.functional_tensor:FunctionalTensor")
no_modes = private("torch.utils._python_dispatch:_disable_current_modes")
unset_fake_temporarily = private(f"{FAKE}:unset_fake_temporarily")
DynamicOutputShapeException = private(f"{FAKE}:DynamicOutputShapeException")
DataDependentOutputException = private(f"{FAKE}:DataDependentOutputException")
UnsupportedOperatorException = private(f"{FAKE}:UnsupportedOperatorException")
META_HANDLERS = private(f"{FAKE}:_DISPATCH_META_HANDLERS")
HANDLED_DIRECTLY = private(f"{FAKE}:_DISPATCH_HANDLE_DIRECTLY")
no_dispatch = private("torch.utils._mode_utils:no_dispatch")  # what runs within is real
_KeyState = private(f"{FAKE}:_CacheKeyState")
_Bypass = private(f"{FAKE}:_BypassDispatchCache")
_BypassEntry = private(f"{FAKE}:_DispatchCacheBypassEntry")
_cache_key = private(f"{FAKE}:FakeTensorMode._cache_key")
dispatch_unremembered = private(f"{FAKE}:FakeTensorMode._dispatch_impl")

# the key in a tensor's `__dict__` under which its device is; in 2.11 and before, the attribute
# itself (class FakeTensor in torch/_subclasses/fake_tensor.py)
FAKE_DEVICE = "_fake_device" if hasattr(FakeTensor, "fake_device") else "fake_device"
NOTHING = object()  # in an entry's place: FakeTensorMode remembers nothing of this operator


def remembered(mode: FakeTensorMode, func, args: tuple, kwargs: dict) -> object | None:
    """What a mode remembers of an operator's result: its entry, NOTHING, or None if not yet."""
    try:
        entry = FakeTensorMode.cache.get(_cache_key(mode, _KeyState(None), func, args, kwargs))
    except _Bypass:
        return None
    return NOTHING if isinstance(entry, _BypassEntry) else entry


def pointer_guard(mode: FakeTensorMode) -> Callable[[torch.Tensor], None]:
    """What makes a new tensor without data complain, as its mode wants, if it is read."""
    if mode._allow_unsafe_data_ptr_access:
        return private("torch._C:_set_warn_deprecated_on_mutable_data_ptr")
    return private("torch._C:_set_throw_on_mutable_data_ptr")


_wrapped = private("torch._C:_functorch.is_functorch_wrapped_tensor")
_unwrapped = private("torch._C:_functorch.get_unwrapped")
_in_kernel = private(f"{FAKE}:in_kernel_invocation_manager")


def held(tensor: torch.Tensor) -> list[torch.Tensor]:
    """The tensors that a tensor consists of which has no storage of its own.

    One of torch.func (`vmap`, `grad`) has the one that it wraps, a sparse one has its indices and
    values. Those of a tensor without data are as C++ code keeps them, without its device.
    """
    if _wrapped(tensor):
        return [_unwrapped(tensor)]
    inside = _in_kernel(tensor.fake_mode) if isinstance(tensor, FakeTensor) else nullcontext()
    with torch.no_grad(), inside:
        if tensor.layout == torch.sparse_coo:
            return [tensor._indices(), tensor._values()]
        if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
            return [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
        if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
            return [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]
    return []


def in_kernel(tensor: FakeTensor) -> AbstractContextManager:
    """A context in which operators run in C++ alone, on tensors as it keeps them."""
    return _in_kernel(tensor.fake_mode)


def nested_int(module: ModuleType) -> torch.SymInt:
    """A new size for the lengths in a nested tensor, as torch.nested._internal.nested_tensor does.

    2.14 makes it in Python; where it has no such class, C++ does.
    """
    number = module._tensor_id_counter
    module._tensor_id_counter += 1
    if hasattr(module, "NestedIntNode"):
        return torch.SymInt(module.NestedIntNode(number, 1))
    return private("torch._C:_get_nested_int")(number, 1)


def start_no_gpu() -> None:
    """Keep tensors without data from starting a GPU when one is made on "cuda"."""
    place, name = owner(f"{FAKE}:init_gpu_context")
    setattr(place, name, lambda device: None)
    FakeTensorMode.avoid_device_init = property(lambda mode: True)
    wrap("torch._C:_select_conv_backend", _choice_without_driver)


def refuse_in_words() -> None:
    """Let operators refuse tensors on different devices as PyTorch does on GPUs."""

    def finding(find: Callable) -> Callable:
        def found(func, flat_args):
            try:
                return find(func, flat_args)
            except RuntimeError as failure:  # whose words differ by version
                pair = re.search(r"devices,? ([\w:]+)(?:,| and) ([\w:]+)", str(failure))
                if pair is None:
                    raise
            raise RuntimeError(
                "Expected all tensors to be on the same device, but found at least two devices, "
                f"{pair[1]} and {pair[2]}!"
            )

        return found

    wrap(f"{FAKE}:FakeTensor._find_common_device", lambda find: staticmethod(finding(find)))


def _choice_without_driver(choose: Callable) -> Callable:
    """The choice of a kernel for a convolution, as a GPU's driver would have it.

    Whether cuDNN computes in bfloat16 and with dilation, PyTorch asks about the GPU
    (`supportsBFloat16ConvolutionWithCuDNNv8`, `supportsDilatedConvolutionWithCuDNN` in
    aten/src/ATen/cuda/detail/CUDAHooks.cpp): in bfloat16 from compute capability 8 on, dilated on
    all. Without a driver, that fails in 2.9, and is never so since 2.11 (both tried). So it is
    asked about float16 without dilation instead, for which all else is the same. (In float16 it may
    also take cuDNN for a convolution of each channel by itself; that is not seen here.)
    """

    def choose_alike(input, weight, bias=None, *, dilation, **options):
        given = [
            one.half() if one is not None and one.dtype == torch.bfloat16 else one
            for one in (input, weight, bias)
        ]
        enabled = torch._C._get_cudnn_enabled()
        able = input.dtype != torch.bfloat16 or torch.cuda.get_device_capability() >= (8, 0)
        torch._C._set_cudnn_enabled(enabled and able)
        try:
            return choose(*given[:2], bias=given[2], dilation=[1] * len(dilation), **options)
        finally:
            torch._C._set_cudnn_enabled(enabled)

    return choose_alike


def convolution_kernel(
    input: torch.Tensor, weight: torch.Tensor, **options
) -> tuple[str, torch.memory_format]:
    """Which kernel computes a convolution, as `ConvBackend` names it, and in which layout.

    PyTorch turns a convolution in one dimension into one in two, and does not look for channels
    that come last there (`_convolution` in aten/src/ATen/native/Convolution.cpp).
    """
    choose, layout = (
        private(f"torch._C:{name}")
        for name in ("_select_conv_backend", "_conv_determine_backend_memory_format")
    )
    kind = choose(input, weight, bias=None, bias_sizes=None, **options)
    return kind.name, layout(input, weight, kind) if weight.dim() > 3 else torch.contiguous_format


def take_over_inputs() -> None:
    """Let Dynamo's compilers take over a graph's inputs and parameters that have no data.

    2.9 refuses those of another mode than its own; from 2.11 on, all are made anew in that one
    (`detect_fake_mode` in torch/_guards.py, `process_inputs` in _functorch/_aot_autograd).
    """
    if VERSION >= (2, 11):
        return

    def as_traced(example_inputs: Callable) -> Callable:
        def inputs(graph) -> list:
            mode = graph.tracing_context.fake_mode
            return [
                one if arg.fake_tensor is None else mode.from_tensor(arg.fake_tensor)
                for arg, one in zip(graph.graphargs, example_inputs(graph), strict=True)
            ]

        return inputs

    def with_parameters(prepare: Callable) -> Callable:
        def prepared(args: list, settings, mode: FakeTensorMode, *others, **named):
            args = [
                mode.from_tensor(one) if getattr(one, "fake_mode", mode) is not mode else one
                for one in args
            ]
            return prepare(args, settings, mode, *others, **named)

        return prepared

    wrap("torch._dynamo.output_graph:OutputGraph.example_inputs", as_traced)
    aot, context = "torch._functorch.aot_autograd", private("torch._guards:TracingContext.try_get")
    wrap(f"{aot}:process_inputs", with_parameters)
    wrap(
        f"{aot}:construct_fake_mode",
        lambda find: lambda args, *others: find(args if context() is None else [], *others),
    )


# ----------------------------------------------------------------------- operators and autograd

OpOverload = private("torch._ops:OpOverload")
suggest_memory_format = private("torch._prims_common:suggest_memory_format")
flash_shapes = private("torch._meta_registrations:meta__scaled_dot_product_flash_attention")
data = private("torch._C:TensorBase.data")
current_node = private("torch._C:_current_autograd_node")
sequence_number = private("torch._C:_autograd._get_sequence_nr")
ProcessGroup = private("torch._C._distributed_c10d:ProcessGroup")
IncompatibleKeys = private("torch.nn.modules.module:_IncompatibleKeys")
_composite = private("torch._C:DispatchKey.CompositeImplicitAutograd")
_has_kernel = private("torch._C:_dispatch_has_kernel_for_dispatch_key")
_below_autocast = private("torch._C:DispatchKeySet")(private("torch._C:DispatchKey.AutocastCUDA"))
_Without = private("torch._C:_ExcludeDispatchKeyGuard")


def decomposed(op: OpOverload, *args, **kwargs) -> object:
    """The result of a composite operator by its own C++ code."""
    return op._op_dk(_composite, *args, **kwargs)


def composite(op: OpOverload) -> bool:
    """Whether an operator consists of others on all devices, by its own C++ code."""
    try:
        return _has_kernel(op.name(), _composite)
    except RuntimeError:  # the dispatcher does not know it, as `sym_size`
        return False


def remember_factories() -> None:
    """Let a default device know the functions that make tensors, before others take their places.

    `_device_constructors` in torch/utils/_device.py looks for them once.
    """
    private("torch.utils._device:_device_constructors")()


def below_autocast() -> AbstractContextManager:
    """A context in which operators do not meet autocast's kernels for "cuda"."""
    return _Without(_below_autocast)


def autocast_everywhere() -> None:
    """Let autocast's kernels for "cuda", while it is on, be asked about tensors of any device.

    Tensors that are spread over ranks (DTensor) are on another one to the dispatcher.
    """
    include = private("torch._C:_dispatch_tls_set_dispatch_key_included")
    include(private("torch._C:DispatchKey.AutocastCUDA"), True)


def wrap_backward(wrapper: Callable[[Callable], Callable]) -> None:
    """Put `wrapper(function)` in the place of what runs each backward pass."""
    run = wrapper(private("torch.autograd.graph:_engine_run_backward"))
    for module in ("torch.autograd", "torch.autograd.graph"):
        place, name = owner(f"{module}:_engine_run_backward")
        setattr(place, name, run)


def find_accelerator() -> None:
    """Let C++ and FSDP2, which ask for the machine's accelerator, find CUDA."""
    place, name = owner("torch._C:_get_accelerator")
    setattr(place, name, lambda *args: torch.device("cuda"))


# the functions that make tensors on the default device; they are remembered at the first call
constructors = private("torch.utils._device:_device_constructors")


def default_device() -> torch.device | None:
    """The default device, if one was set."""
    return private("torch.utils._device:CURRENT_DEVICE")


DeviceProperties = private("torch._C:_CudaDeviceProperties", "builtins:object")


def accelerator_memory() -> object:
    """The module of torch.accelerator's memory functions."""
    return private("torch.accelerator:memory", "torch:accelerator")


# ------------------------------------------------------------------------- cuBLAS's workspace


def keeps_workspace() -> bool:
    """Whether cuBLAS keeps its workspace once it has one; else each product takes and returns it.

    It does until 2.14. From 2.15 on it does if this variable is set, and by default it does not
    (`isCUDABlasWorkspaceCachingEnabled` in aten/src/ATen/cuda/CublasHandlePool.cpp, whose default
    was read in 2.15.0's compiled library).
    """
    return VERSION < (2, 15) or os.environ.get("TORCH_CUBLAS_WORKSPACE_CACHE") == "1"


# --------------------------------------------------------------------------------- optimizers


def foreach_types() -> list[list[type]]:
    """The lists of types of tensors for which optimizers work on lists, one for each user."""
    return [
        private("torch.optim.optimizer:_foreach_supported_types"),
        private("torch.utils._foreach_utils:_foreach_supported_types"),
    ]


# `_group_tensors_by_device_and_dtype` in both modules, and clip_grad_norm_, call it
GROUPED = "torch._C:_group_tensors_by_device_and_dtype"
SCALER_STEP = "torch.amp.grad_scaler:GradScaler._maybe_opt_step"
ADAM_ON_LISTS = "torch.optim.adam:_multi_tensor_adam"


# ------------------------------------------------------------------------ caching allocator

_SETTINGS = (
    "torch._C:_accelerator_setAllocatorSettings",
    # 2.9: torch/cuda/memory.py calls this one
    "torch._C:_cuda_cudaCachingAllocator_set_allocator_settings",
)
check_settings: Callable[[str], None] = private(*_SETTINGS)  # raises RuntimeError, ValueError
# The variables that hold the settings; the first one that is set counts. 2.11 and later read the
# older name before the newer one (see the order in libc10_cuda.so). 2.9's CUDA build knows the
# older one alone (CUDAAllocatorConfig::instance in include/c10/cuda/CUDAAllocatorConfig.h).
SETTINGS_FROM = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")[: 1 if VERSION < (2, 10) else 2]


def replace_settings(function: Callable[[str], None]) -> None:
    """Put a function in the place of what changes the allocator's settings, under all its names."""
    for path in _SETTINGS:
        module, _, name = path.partition(":")
        if hasattr(importlib.import_module(module), name):
            setattr(importlib.import_module(module), name, function)


# ------------------------------------------------------------------------------ attention

# Rules of aten/src/ATen/native/transformers/cuda/sdp_utils.cpp that came after 2.11. 2.9.1 was read
# at its commit, 5811a8d. 2.11.0's library has none of the messages that come with the newer rules
# ("resolution is limited to 1/16", "storage offsets", "with these head dimensions"), 2.14.1's and
# 2.15.0's have all. Between 2.11 and 2.14, nothing was read.
_NEW_ATTENTION = VERSION >= (2, 12)
# `check_cudnn_dropout`: cuDNN's kernel takes only a dropout that is a multiple of 1/16
CUDNN_DROPOUT_IN_STEPS = _NEW_ATTENTION
# `check_data_ptr_alignment_mem_efficient`: the kernel takes only tensors whose place is aligned
EFFICIENT_NEEDS_ALIGNMENT = _NEW_ATTENTION
# `check_batch_size_and_num_heads_dense<supports_gqa>`: several heads of queries may share one
EFFICIENT_SHARES_HEADS = _NEW_ATTENTION
sdp_order: Callable[[], list[int]] = private("torch._C:_get_sdp_priority_order")


def cudnn_widths(width: int, value_width: int, capability: tuple[int, int], grad: bool) -> bool:
    """Whether cuDNN's kernel takes heads of this size, and values of that (`head_dim_limit`).

    `grad`: whether there is a backward pass (`check_cudnn_d256_bprop_head_dim`). 2.14 and later: by
    cuDNN 9.24, which PyTorch installs with CUDA 13. Before (`check_cudnn_tensor_shapes`): up to 256
    on compute capability 9.0 alone, in both directions.
    """
    widths = (width, value_width)
    if not _NEW_ATTENTION:
        return max(widths) <= (256 if capability == (9, 0) else 128)
    hopper = capability == (9, 0) or capability[0] == 10
    if hopper and grad:
        return max(widths) <= 128 or widths in ((192, 128), (256, 256))
    return max(widths) <= (256 if hopper else 128)


def count_shared_heads() -> None:
    """Let the formulas for attention's arithmetic take fewer heads of keys than of queries.

    Those before 2.14 refuse them (torch/utils/flop_counter.py); the work is that of the queries'.
    """
    if VERSION >= (2, 14):
        return

    def shared(formula: Callable) -> Callable:
        def count(*shapes) -> int:
            *given, query, key, value = shapes
            key, value = ((*one[:1], query[1], *one[2:]) for one in (key, value))
            return formula(*given, query, key, value)

        return count

    for name in ("sdpa_flop_count", "sdpa_backward_flop_count"):
        wrap(f"torch.utils.flop_counter:{name}", shared)


_FLEX = "torch._higher_order_ops.flex_attention"
flex = private(f"{_FLEX}:flex_attention")
flex_backward = private(f"{_FLEX}:flex_attention_backward")
flex_dense = private(f"{_FLEX}:sdpa_dense")
FLEX_GRAPHS = f"{_FLEX}:create_fw_bw_graph"
flex_dense_backward = private(f"{_FLEX}:sdpa_dense_backward")


# ------------------------------------------------------------------------- several processes

# Those that 2.11 has kernels without data for (torch/distributed/_meta_registrations.py), but for
# the monitored barrier, which returns nothing.
_COLLECTIVES = (
    "broadcast_", "allreduce_", "allgather_", "_allgather_base_", "reduce_scatter_",
    "_reduce_scatter_base_", "reduce_", "gather_", "scatter_", "alltoall_", "alltoall_base_",
    "barrier", "send", "recv_", "recv_any_source_",
)  # fmt: skip
_COLLECTIVE_KERNELS = torch.library.Library("c10d", "IMPL")  # they last as long as it does
_cpu = private("torch._C:DispatchKeySet")(private("torch._C:DispatchKey.CPU"))
FakeStore = private("torch.testing._internal.distributed.fake_pg:FakeStore")
resolve_group = private("torch.distributed.distributed_c10d:_resolve_process_group")
SYNCHRONIZED = "torch.nn.modules._functions:SyncBatchNorm.forward"
moved_inputs = private("torch.distributed.utils:_to_kwargs")
WHOLE_SHAPES = (
    "torch.distributed.tensor._sharding_prop:ShardingPropagator._propagate_tensor_meta_non_cached"
)
FSDP2_CHUNKS = "torch.distributed.fsdp._fully_shard._fsdp_param:_chunk_with_empty"
MESH_METHODS = tuple(
    f"torch.distributed.device_mesh:DeviceMesh.{name}"
    for name in ("__init__", "__getitem__", "_flatten")
)


class _NothingDrawn(private("torch.distributed.tensor._random:_RNGStateTracker")):
    """In the place of what lets ranks draw other random numbers, or the same, for their parts."""

    def __init__(self) -> None:
        self.distribute_region_enabled = False

    def _distribute_region(self, spec, generator=None) -> AbstractContextManager:
        return contextlib.nullcontext()


def draw_nothing() -> None:
    """Let random numbers be drawn into a rank's part of a tensor as into any other tensor."""
    place, name = owner("torch.distributed.tensor._random:_rng_tracker")
    setattr(place, name, _NothingDrawn())


def collectives_without_data() -> None:
    """Let collective operators take tensors without data, of which 2.9's have no kernel.

    The CPU's kernels ask the process group, and the "fake" one reads no numbers.
    """
    has_kernel = private("torch._C:_dispatch_has_kernel_for_dispatch_key")
    if has_kernel("c10d::barrier", "Meta"):
        return
    for name in _COLLECTIVES:
        operator = getattr(torch.ops.c10d, name).default
        _COLLECTIVE_KERNELS.impl(name, functools.partial(operator.redispatch, _cpu), "Meta")
    _COLLECTIVE_KERNELS.impl("monitored_barrier_", lambda *args: None, "Meta")
