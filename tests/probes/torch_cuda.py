"""Hold what stands in for torch.cuda against the real one; print what differs, as JSON.

Also the peaks of two phases, by each name that resets and tells them: see test_torch_cuda.py.
"""

import inspect
import json

import torch

from vramcast import compat, gpus
from vramcast.device import mode
from vramcast.loops.watched import Watched
from vramcast.memory.tracker import Tracker

MODULES = (
    torch.cuda, torch.cuda.memory, torch.cuda.random, torch.cuda.graphs, torch.accelerator,
    compat.accelerator_memory(),
)  # fmt: skip
CLASSES = {
    torch: ("Stream", "Event"),
    torch.cuda: ("Stream", "Event", "CUDAGraph", "MemPool", "ExternalStream", "device"),
}
CALLED = """
torch.cuda.current_blas_handle() torch.cuda.current_solver_handle() torch.cuda.get_arch_list()
torch.cuda.get_gencode_flags() torch.cuda.list_gpu_processes() torch.cuda.memory_summary(device=0)
torch.cuda.host_memory_stats() torch.cuda.nvtx.range_push("x") torch.cuda.nvtx.range_pop()
torch.cuda.default_generators[0] torch.backends.cuda.cufft_plan_cache[0].max_size
torch.backends.cuda.cufft_plan_cache.clear() torch.backends.cuda.preferred_linalg_library()
torch.cuda.amp.GradScaler() torch.cuda.amp.autocast() torch.cuda.ExternalStream(1)
torch.cuda.device_of(torch.ones(2)).__enter__() torch.cuda.memory_stats(device="cuda:0")
torch.cuda.get_device_properties(0).uuid torch.cuda.get_device_properties(0).L2_cache_size
torch.cuda.get_device_properties(0).shared_memory_per_multiprocessor
torch.cuda.Event().device torch.cuda.Stream().device torch.cuda.CUDAGraph().debug_dump("x")
"""


def differences(real, fake) -> list[str]:
    """How a stand-in cannot be called that the real one can: by position, by name, with little."""
    try:
        parameters = list(inspect.signature(real).parameters.values())
    except (ValueError, TypeError):  # of C code
        return []
    taken = inspect.signature(fake)
    by_name = [one for one in parameters if one.kind is one.KEYWORD_ONLY]
    either = [one for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD]
    first = [one for one in parameters if one.kind is one.POSITIONAL_ONLY]
    found = []
    for placed, named in (
        (first + either, by_name),
        (first, either + by_name),
        ([one for one in first + either if one.default is one.empty], []),
    ):
        try:
            taken.bind(*placed, **{one.name: one for one in named})
        except TypeError as error:
            found.append(str(error))
    return found


real = {(module, name): getattr(module, name) for module in MODULES for name in dir(module)}
classes = {(module, name): getattr(module, name) for module in CLASSES for name in CLASSES[module]}
watched = Watched()
tracker = Tracker(watched.sees)
tracker.install()
gpu = mode.install(tracker, gpus.DEFAULT, 1, [], watched.allocators)
wrong, compared = {}, 0
for (module, name), function in real.items():
    fake = getattr(module, name)
    if fake is function or isinstance(function, type) or not callable(function):
        continue
    compared += 1
    if found := differences(function, fake):
        wrong[f"{module.__name__}.{name}"] = found
for (module, name), cls in classes.items():
    fake = getattr(module, name)
    for method in dir(cls):
        if not method.startswith("_"):
            compared += 1
            its, other = getattr(cls, method), getattr(fake, method, None)
            if not hasattr(fake, method):
                wrong[f"{name}.{method}"] = ["is missing"]
            elif callable(its) and (found := differences(its, other)):
                wrong[f"{name}.{method}"] = found
peaks = {}
with gpu:
    for call in CALLED.split():
        try:
            eval(call)
        except Exception as error:
            wrong[call] = [str(error)]
    for place in (torch.cuda, torch.cuda.memory, torch.accelerator, torch.accelerator.memory):
        seen = peaks[place.__name__] = []
        for size in (5 * 2**20, 2**20):  # numbers of float32: whole MiB
            place.reset_peak_memory_stats()
            held = torch.empty(size, device="cuda")
            del held
            seen.append(place.max_memory_allocated())
print(json.dumps({"wrong": wrong, "compared": compared, "peaks": peaks}))
