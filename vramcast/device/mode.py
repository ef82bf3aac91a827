"""A GPU without data: its tensors have a shape, a data type and a device, but no numbers.

Where PyTorch does something else on a GPU than on a CPU, it is done as on a GPU: autocast, fused
attention, foreach optimizers. A number that is read from a tensor is 0 (1 if an optimizer reads
its count of steps), a truth value is False.
"""

import contextlib
import functools
import os
from collections.abc import Iterator

import torch
from torch.utils._pytree import tree_leaves

from vramcast import compat, operators, where
from vramcast.compat import NOTHING, FakeTensor, FakeTensorMode
from vramcast.cost.counter import Cost
from vramcast.cost.rules import rule as rule_of_cost
from vramcast.device import (
    autocast,
    cuda,
    devices,
    flex_attention,
    known,
    lbfgs,
    nested,
    optimizers,
    readings,
    unknown,
)
from vramcast.device.cache import Results
from vramcast.device.devices import Places
from vramcast.device.readings import number
from vramcast.device.unknown import Unknown
from vramcast.gpus import Model, workspace
from vramcast.loops.unknown_ends import UnknownEnds
from vramcast.memory import settings as allocator_settings
from vramcast.memory.allocators import Allocators
from vramcast.memory.tracker import Tracker
from vramcast.operators import ranges, registry, sparse, unknown_sizes
from vramcast.ranks import collectives

aten = torch.ops.aten
COPIES = {aten._to_copy.default, aten.copy_.default}
JOINS = {aten.stack.default, aten.cat.default}
MANY = 64  # tensors, of which a key takes longer than to join them
SIZED = {aten.slice.Tensor, aten.arange.default, aten.arange.start, aten.zeros.default}
SIZED |= {aten.ones.default, aten.full.default}


def _inferred(tensor: torch.Tensor) -> bool:
    """Whether a tensor was made in inference mode."""
    return tensor.is_inference()


class _Traits:
    """Properties of an operator that are needed at each call; to look them up anew takes long."""

    __slots__ = (
        "arrives", "book", "buffers", "collective", "convolution", "copies", "cost", "cublas",
        "direct", "ends", "joins", "known", "largest", "makes_sparse", "parts", "reads", "selects",
        "sized", "sparse",
    )  # fmt: skip

    def __init__(self, func) -> None:
        rules = registry.of(func)
        self.buffers, self.book, self.largest = rules.buffers, rules.book, rules.largest
        self.cublas, self.convolution = rules.cublas, rules.convolution
        self.sparse, self.makes_sparse = rules.sparse, rules.makes_sparse
        self.reads = func is aten._local_scalar_dense.default
        self.copies, self.joins = func in COPIES, func in JOINS
        self.collective = func.namespace in ("c10d", "_c10d_functional")
        # PyTorch's rule for shapes makes another tensor; on a GPU, the waiting stream gets this one
        self.arrives = func is torch.ops._c10d_functional.wait_tensor.default
        self.sized, self.selects = func in SIZED, func is aten.select.int
        self.direct = func in compat.META_HANDLERS or func in compat.HANDLED_DIRECTLY
        self.parts = registry.parts(func, False), registry.parts(func, True)
        self.cost = rule_of_cost(func)
        self.known, self.ends = known.Kind(func), ranges.rule(func)


class Gpu(FakeTensorMode):
    """The mode in which every tensor is fake; `tracker` books the storages, `cost` the work."""

    def __init__(
        self, tracker: Tracker, capability: tuple[int, int], notes: list[str], places: Places
    ) -> None:
        """`capability`: the GPU's, by which cuBLAS's workspace is as large as it is."""
        super().__init__(allow_non_fake_inputs=True)
        self.tracker, self.places = tracker, places
        self.depth = 0  # operators that run inside of operators allocate nothing on a GPU
        self.capability, self.notes = capability, notes
        self.loops: UnknownEnds | None = None  # of the script
        unknown.SIZED.note, unknown.SIZED.forget = self.note, ranges.drop
        # with a workspace of cuBLAS: the backward pass's thread or all others', and the stream
        self.workspaces: set[tuple[bool, int]] = set()
        self.results = Results(self)
        self.traits: dict[int, _Traits] = {}
        self.collective = functools.partial(collectives.in_turn, tracker)
        self.cost = Cost(tracker)

    def dispatch(self, func, types, args=(), kwargs=None):
        traits = self.traits.get(id(func))
        if traits is None:
            traits = self.traits[id(func)] = _Traits(func)
        kwargs = kwargs or {}
        device = kwargs.get("device")
        if device is not None and (place := self.places[device]) is not device:
            kwargs = kwargs | {"device": place}
        if traits.reads:
            return self.read(args[0])
        if traits.arrives and type(args[0]) is FakeTensor:
            return args[0]
        outside = self.depth == 0
        if outside and traits.parts != (None, None):
            leaves = [one for one in tree_leaves(args) if isinstance(one, torch.Tensor)]
            on_gpu = any(type(one) is FakeTensor and one.device.type == "cuda" for one in leaves)
            parts = traits.parts[on_gpu]
            # else PyTorch has looked at it on its way to autograd, and wants it whole
            whole = not (torch.is_inference_mode_enabled() or any(map(_inferred, leaves)))
            if parts is not None and not whole:
                places = (self.places[one] if type(one) is torch.device else one for one in args)
                with self:
                    return parts(*places, **kwargs)
        result = self.result(func, types, args, kwargs, traits)
        if result is NotImplemented:  # a tensor that consists of others does it with those
            return result
        passing = False  # whether it takes a workspace and gives it back
        if traits.cublas and (there := args[1].device).type == "cuda":
            passing = not compat.keeps_workspace()
            here = self.tracker.phase == "backward", self.tracker.streams[there.index]
            if not passing and here not in self.workspaces:
                self.workspaces.add(here)
                self.tracker.take([self.workspace], args[1])
        taken = []
        if traits.buffers and outside and (buffers := traits.buffers(args)):
            taken = self.tracker.take(buffers, args[0][0] if type(args[0]) is list else args[0])
        if traits.sized and Unknown.read and result.numel() == 0:
            unknown.check_empty(func is aten.slice.Tensor, args)
        if (
            traits.ends is not None
            and outside
            and (type(result) is not FakeTensor or not result.dtype.is_floating_point)
        ):
            ranges.track(traits.ends, func, args, kwargs, result)
        if outside:
            if traits.book is None:
                self.tracker.book(result, func, args)
            else:
                traits.book(self.tracker, func, args, result)
            if passing:
                taken += self.tracker.take([self.workspace], args[1])
            self.tracker.give_back(taken)
            if traits.copies:
                self.copied(result, args, kwargs)
            elif traits.collective:
                self.collective(args)
            if traits.cost is not None and not self.tracker.pause:
                self.cost.count(traits.cost, args, kwargs, result)
            if kwargs.get("pin_memory"):
                self.tracker.pin(result)
        return result

    @functools.cached_property
    def workspace(self) -> int:
        """The bytes of a workspace of cuBLAS, which PyTorch decides at the first product."""
        return workspace(self.capability, os.environ.get("CUBLAS_WORKSPACE_CONFIG"))

    def result(self, func, types, args, kwargs, traits):
        """The result of an operator."""
        if traits.largest is not None or traits.known.measured:
            exact = self.exact(func, args, kwargs, traits)
            if exact is not None:
                return exact
        if traits.largest is not None:
            most = self.most(func, args, kwargs, traits)
            if most is not None:
                return most
        if traits.selects and type(args[0]) is FakeTensor:
            row = self.selected(func, types, args, traits)
            if row is not None:
                return row
        key = None if traits.direct else self.key(func, args, kwargs, traits)
        shapes = traits.direct or (key is not None and key is not NOTHING)
        if traits.makes_sparse or (not shapes and sparse.sparse(args)):
            with self:
                made = sparse.result(func, args, kwargs, traits.sparse)
            if made is not NotImplemented:
                return made
        if not shapes:
            held = known.Held(args, kwargs)
            if held.some:
                return self.beside_numbers(func, types, args, kwargs, traits, held)
        result = self.shaped(key, func, types, args, kwargs, traits)
        if traits.known.factory and self.depth == 0:
            known.made(self, func, traits.known, args, kwargs, result)
        return result

    def key(self, func, args, kwargs, traits):
        """The key of an operator's result; None if there is none, NOTHING if it is not wanted."""
        if traits.joins and len(args[0]) > MANY:
            return NOTHING
        return self.results.key(func, args, kwargs)

    def selected(self, func, types, args, traits):
        """A row of a tensor: as its first row, but further on, to remember one result for all.

        None if the row is not there, or nothing can be remembered.
        """
        tensor, dim, place = args
        first, constant = (tensor, dim, 0), tensor.constant
        if not tensor.dim() or not -tensor.shape[dim] <= place < tensor.shape[dim]:
            return None
        tensor.constant = None
        key = self.results.key(func, first, {})
        entry = None if key is None else self.results.find(key, func, first, {})
        if entry is None and key is not None:
            self.shaped(key, func, types, first, {}, traits)
            entry = self.results.find(key, func, first, {})
        tensor.constant = constant
        if entry is None or entry is NOTHING:
            return None
        row = self.results.make(entry, first, place % tensor.shape[dim] * tensor.stride(dim))
        if constant is not None:
            known.keep_row(row, constant, dim, place)
        return row

    def exact(self, func, args, kwargs, traits):
        """The result of an operator whose size depends on numbers, if they are known; else None."""
        self.depth += 1
        try:
            return known.measured(self, func, traits.known, known.Held(args, kwargs))
        finally:
            self.depth -= 1

    def beside_numbers(self, func, types, args, kwargs, traits, held):
        """The result of an operator some of whose tensors are known."""
        if traits.known.lifts and known.plain(args[0]):
            result = self.lifted(args[0])
        else:
            with held:
                key = self.key(func, args, kwargs, traits)
                result = self.shaped(key, func, types, args, kwargs, traits)
        if self.depth == 0:
            known.compute(self, func, traits.known, held, result)
        return result

    def lifted(self, real: torch.Tensor) -> FakeTensor:
        """A tensor for a real one, in a third of the time that FakeTensorMode takes."""
        self.depth += 1
        try:
            with self:
                return torch.empty(real.shape, dtype=real.dtype, device="cpu")
        finally:
            self.depth -= 1

    def shaped(self, key, func, types, args, kwargs, traits):
        """The result of an operator, without numbers."""
        entry = key if key is None or key is NOTHING else self.results.find(key, func, args, kwargs)
        if entry is not None and entry is not NOTHING:
            return self.results.make(entry, args)
        self.depth += 1
        try:
            if entry is NOTHING:
                return compat.dispatch_unremembered(self, func, types, args, kwargs)
            if traits.convolution:  # C++ chooses a library by the device, and so the layout
                with devices.AS_CUDA:
                    return super().dispatch(func, types, args, kwargs)
            return super().dispatch(func, types, args, kwargs)
        finally:
            self.depth -= 1

    def may_turn_const(self, tensor: torch.Tensor) -> bool:
        """FakeTensorMode computes no numbers: `known` does."""
        return False

    def most(self, func, args, kwargs, traits):
        """The largest possible result of an operator, if its size is not known; else None."""
        self.depth += 1
        try:
            with self:
                found = traits.largest(*args, **kwargs)
        finally:
            self.depth -= 1
        if isinstance(found, registry.Exact):
            return found.result
        if found is not None:
            self.note(unknown_sizes.note(func))
        return found

    def note(self, text: str) -> None:
        """Note something that is assumed, with the line of the script."""
        text = f"{where.here()}{text}"
        if text not in self.notes:
            self.notes.append(text)

    @contextlib.contextmanager
    def as_cuda(self) -> Iterator[None]:
        """A context in which C++ code sees tensors on "cuda", and nothing is booked."""
        self.depth += 1
        try:
            with self, devices.AS_CUDA:
                yield
        finally:
            self.depth -= 1

    def copied(self, copy: torch.Tensor, args: tuple, kwargs: dict) -> None:
        """Book who waits for a copy (Copy.cu).

        The CPU does, between host and GPU unless `non_blocking`; of two GPUs, each for the other.
        """
        source = args[0] if copy is not args[0] else args[1]
        if not isinstance(source, torch.Tensor):  # `copy_` of a number
            return
        here, there = copy.device, source.device
        if here == there:
            return
        gpus = [place.index for place in (here, there) if place.type == "cuda"]
        if len(gpus) == 2:
            self.tracker.meet(*gpus)
        elif gpus and not kwargs.get("non_blocking", args[2] if len(args) > 2 else False):
            self.tracker.wait_here(*gpus)

    def read(self, tensor: torch.Tensor):
        """The number that is read from a tensor. To read from the GPU waits for all its work."""
        if ranges.numbers(tensor) is not None:
            return number(tensor)
        if not (tensor.dtype.is_floating_point or tensor.dtype == torch.bool):
            Unknown.lost = True
        if self.loops:
            self.loops.read(where.line())
        if tensor.device.type == "cuda":
            self.tracker.wait_here(tensor.device.index)
            return number(tensor)
        # Adam divides by a number that depends on its count of steps, which is kept on the host
        return number(tensor, 1 if self.tracker.phase == "optimizer step" else 0)


def install(
    tracker: Tracker,
    model: Model,
    gpus: int,
    notes: list[str] | None = None,
    allocators: Allocators | None = None,
) -> Gpu:
    """Let scripts find this many GPUs of a model. Returns the mode, not yet entered.

    `notes` is for what is not known of operators that the script uses. `allocators`: what the
    script is told of its memory.
    """
    notes = [] if notes is None else notes
    torch.default_generator.manual_seed(0)  # random numbers on the host are known: always the same
    places = Places(tracker, gpus)
    cuda.install(places, allocators or Allocators(), model, notes)
    allocator_settings.install(tracker, notes)
    devices.install(Gpu, tracker, places)
    flex_attention.install(Gpu, tracker)
    nested.install(model.capability)
    readings.install()
    autocast.install()
    operators.install(model, notes)
    sparse.install(tracker, notes)
    optimizers.install()
    lbfgs.install(tracker, notes)
    torch.backends.mha.set_fastpath_enabled(False)  # it bypasses the operators that are booked
    return Gpu(tracker, model.capability, notes, places)
