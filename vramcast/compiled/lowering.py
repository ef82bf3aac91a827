"""Inductor without a GPU: the device that it asks about, and what it decides by timing kernels."""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import torch

from vramcast import compat
from vramcast.device.mode import Gpu
from vramcast.loops.watched import Watched

# Options of Inductor's that are not followed, and what a note says of each that a script sets
GRAPHS = "triton.cudagraphs"
NOT_FOLLOWED = {
    GRAPHS: "the memory of CUDA graphs is not counted: their pools keep what a step allocates",
    "max_autotune": "the kernels that autotuning chooses, and what it takes to try them, are not "
    "known: the usual ones count",
}
AUTOTUNING = ("max_autotune", "max_autotune_gemm", "max_autotune_pointwise")
OFF = dict.fromkeys((GRAPHS, *AUTOTUNING, "coordinate_descent_tuning"), False)
PADDED = (
    "torch.compile pads products of matrices whose sizes are no multiples of what tensor cores "
    "take, if that is faster; it is assumed to be"
)


class Driver:
    """In the place of Triton's driver: which GPU there is."""

    def __init__(self, properties: SimpleNamespace) -> None:
        self.properties = properties
        self.utils = SimpleNamespace(get_device_properties=self._properties)

    def _properties(self, device: int) -> dict:
        found = self.properties
        return {
            "max_shared_mem": found.shared_memory_per_block_optin,
            "multiprocessor_count": found.multi_processor_count,
            "warpSize": found.warp_size,
        }

    def get_current_target(self):
        import triton

        capability = 10 * self.properties.major + self.properties.minor
        return triton.backends.compiler.GPUTarget("cuda", capability, 32)

    def get_current_device(self) -> int:
        return 0

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cuda", 0)

    def get_device_interface(self):
        return torch.cuda

    @classmethod
    def is_active(cls) -> bool:
        return True


def install(gpu: Gpu, watched: Watched) -> None:
    """Let Inductor find the simulated GPU, and compile no kernel for it; it says how far it is.

    Raises ImportError if Triton is not installed, and compat.Unsupported.
    """
    import triton.backends.compiler
    import triton.runtime

    # it would ask Triton's assembler, a program, for its version
    place, name = compat.owner("torch.utils._triton:triton_hash_with_backend")
    setattr(place, name, lambda: "")
    triton.runtime.driver.set_active(Driver(torch.cuda.get_device_properties()))
    _find_gpu()
    settings = compat.private("torch._inductor:config")
    settings.compile_threads = 1  # processes of its own are refused
    settings.fx_graph_cache = False  # what is kept there has compiled kernels
    compat.private("torch._functorch:config").enable_autograd_cache = False
    compat.wrap("torch._inductor.compile_fx:compile_fx", lambda call: _followed(gpu, call))
    compat.wrap(
        "torch._inductor.compile_fx:fx_codegen_and_compile",
        lambda call: _counted(watched, call),
    )
    compat.wrap("torch._dynamo.convert_frame:ConvertFrameAssert.__call__", _without_modes)
    compat.wrap(
        "torch._dynamo.backends.distributed:DDPOptimizer.compile_fn",
        lambda cut: lambda optimizer, model, inputs: cut(optimizer, model, _traced(gpu, inputs)),
    )
    _pad_without_timing(gpu)


def _without_modes(convert: Callable) -> Callable:
    """What compiles a function. Dynamo leaves modes but within DistributedDataParallel."""

    def converted(*args, **kwargs):
        with compat.no_modes():
            return convert(*args, **kwargs)

    return converted


def _counted(watched: Watched, call: Callable) -> Callable:
    numbers = itertools.count(1)

    def run(*args, **kwargs):
        watched.tell(f"compiling graph {next(numbers)}")
        return call(*args, **kwargs)

    return run


def _find_gpu() -> None:
    """Let Dynamo ask the simulated `torch.cuda`, also if it was imported before that was there."""
    interface = compat.private("torch._dynamo.device_interface:CudaInterface")
    for name in list(vars(interface)):
        own = getattr(torch.cuda, name, None) or getattr(torch.cuda, f"_{name}", None)
        if own is not None and not name.startswith("_"):
            setattr(interface, name, own if isinstance(own, type) else staticmethod(own))


def _followed(gpu: Gpu, compile_fx: Callable) -> Callable:
    """The compiler, with the options that are followed; the others are noted."""

    def run(model, inputs, *args, config_patches: dict | None = None, **kwargs):
        if "inner_compile" in kwargs:  # it calls itself, with these options applied
            return compile_fx(model, inputs, *args, **kwargs)
        inputs = _traced(gpu, inputs)
        settings = compat.private("torch._inductor:config").get_config_copy()
        wanted = settings | (config_patches or {})
        for key, note in NOT_FOLLOWED.items():
            if wanted.get(key) and note not in gpu.notes:
                gpu.notes.append(f"torch.compile: {note}")
        patches = (config_patches or {}) | OFF
        return compile_fx(model, inputs, *args, config_patches=patches, **kwargs)

    return run


def _traced(gpu: Gpu, inputs: list) -> list:
    """A graph's inputs as AOTAutograd makes them of the script's tensors, where they are those."""
    if not any(getattr(one, "fake_mode", None) is gpu for one in inputs):
        return inputs
    context = compat.private("torch._guards:TracingContext").get()

    def traced(one: object) -> object:
        if not isinstance(one, torch.Tensor):
            return one
        known = context.tensor_to_context.get(one)
        source = known and known.tensor_source
        return context.fake_mode.from_tensor(one, symbolic_context=known, source=source)

    return [traced(one) for one in inputs]


def _pad_without_timing(gpu: Gpu) -> None:
    """Pad matrices wherever Inductor would try it: it cannot be timed here.

    What the trial allocates is booked, since it can leave larger segments than the training needs.
    """
    pad = "torch._inductor.fx_passes.pad_mm"
    place, name = compat.owner(f"{pad}:_skip_do_bench_times")
    setattr(place, name, True)

    @contextlib.contextmanager
    def on_gpu() -> Iterator[None]:
        with compat.no_modes(), gpu:
            yield

    def time(run: Callable[[], object]) -> float:
        """As `do_bench` does: with a buffer that is as large as the cache, to empty it."""
        if PADDED not in gpu.notes:
            gpu.notes.append(PADDED)
        size = torch.cuda.get_device_properties().L2_cache_size
        flushed = torch.empty(size, dtype=torch.int8, device="cuda")
        run()
        del flushed
        return 1.0

    place, name = compat.owner(f"{pad}:no_dispatch")
    setattr(place, name, on_gpu)
    place, name = compat.owner(f"{pad}:get_do_bench")
    setattr(place, name, lambda: time)
