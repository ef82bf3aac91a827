"""A GPU without data: tensors on it have shape, precision and device, and no numbers.

What the GPU's own rules decide is decided by them: autocast's lists, fused attention, and foreach
optimizers. Each number that is read from a tensor is 0 (1 where an optimizer reads its count of
steps), each truth value False.
"""

import torch
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from prediction import (
    allocator_settings,
    attention,
    autocast,
    composites,
    cuda,
    devices,
    optimizers,
    readings,
    recurrent,
)
from prediction.devices import CUDA, LABEL
from prediction.gpus import Model
from prediction.readings import number
from prediction.remembered import NOTHING, Results
from prediction.tracker import Tracker

aten = torch.ops.aten
PRODUCTS = {
    getattr(aten, name).default for name in ("mm", "addmm", "bmm", "baddbmm", "mv", "addmv")
}
CONVOLUTIONS = {aten.convolution.default, aten.convolution_backward.default}
SIZED = {aten.slice.Tensor, aten.arange.default, aten.arange.start, aten.zeros.default}
SIZED |= {aten.ones.default, aten.full.default}


class _Traits:
    """What is asked of an operator each time, which takes long: its hash is computed in Python."""

    __slots__ = ("convolution", "direct", "product", "reads", "sized")

    def __init__(self, func) -> None:
        self.reads = func is aten._local_scalar_dense.default
        self.product = func in PRODUCTS
        self.sized = func in SIZED
        self.convolution = func in CONVOLUTIONS
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
        if kwargs.get("device") == LABEL:
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
            if kwargs.get("pin_memory"):
                self.tracker.pin(result)
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
            if traits.convolution:  # C++ chooses a library by the device, and so the layout
                with devices.said_to_be_cuda():
                    return super().dispatch(func, types, args, kwargs)
            return super().dispatch(func, types, args, kwargs)
        finally:
            self.depth -= 1

    def read(self, tensor: torch.Tensor):
        """What is read from a tensor. Reading from the GPU waits for what it has to do."""
        if not (tensor.dtype.is_floating_point or tensor.dtype == torch.bool):
            self.whole_numbers_read = True
        if tensor.device.type == "cuda":
            self.tracker.wait(self.tracker.stream)
            return number(tensor)
        # Adam divides by a number that depends on its count of steps, which is kept on the host
        return number(tensor, 1 if self.tracker.phase == "optimizer step" else 0)


def install(tracker: Tracker, model: Model, gpus: int, notes: list[str] | None = None) -> Gpu:
    """Let scripts find this many GPUs of a model. Returns the mode, not yet entered.

    `notes` is told what is not known of operators that the script uses. Cannot be undone.
    """
    notes = [] if notes is None else notes
    cuda.install(tracker, model, gpus)
    allocator_settings.install(tracker, notes)
    devices.install(Gpu, tracker)
    readings.install()
    autocast.install()
    composites.install()
    recurrent.install(model.capability, notes)
    attention.install(model.capability)
    optimizers.install()
    torch.backends.mha.set_fastpath_enabled(False)  # it bypasses the operators that are booked
    return Gpu(tracker, model.workspace)
