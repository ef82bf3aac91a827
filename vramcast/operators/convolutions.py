"""Convolutions: which kernel computes them on a GPU, and what it takes there meanwhile.

As in aten/src/ATen/native/Convolution.cpp, cudnn/ConvShared.cpp and cudnn/Conv_v8.cpp (torch 2.9 to
2.14). Mostly it is cuDNN's. For a pass, PyTorch takes the first plan of cuDNN's heuristics that can
be made and for whose workspace there is memory. With `torch.backends.cudnn.benchmark`, it first
tries all plans for a shape, in a workspace for the largest of them, and empties its cache then.
Which plan it finds the fastest cannot be known without the GPU: counted is the heuristics' first.

cuDNN itself is asked (cudnn.py), in the version that is installed here. Others choose others.
"""

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from vramcast import compat
from vramcast.gpus import Model
from vramcast.memory.storages import Storages
from vramcast.operators import cudnn
from vramcast.operators.cudnn_devices import cudnn_properties
from vramcast.operators.registry import register

aten = torch.ops.aten
NO_PLAN = (
    "cuDNN's heuristics have no plan for a convolution, as far as it can tell without the GPU: "
    "counted is its fallback"
)
ALIGNMENT = 32  # bytes: the largest that PyTorch tells cuDNN (`getAlignment` in Conv_v8.cpp)


@dataclass(frozen=True)
class Call:
    """A convolution, forward or backward."""

    kernel: str  # by its name in ConvBackend (aten/src/ATen/native/ConvUtils.h)
    layout: torch.memory_format  # in which the kernel takes its tensors
    transposed: bool
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]

    def copied(self, tensor: torch.Tensor) -> list[int]:
        """The bytes of a copy in the kernel's layout, if PyTorch makes one."""
        there = tensor.is_contiguous(memory_format=self.layout)
        return [] if there else [tensor.numel() * tensor.element_size()]

    def columns(self, input: torch.Tensor, weight: torch.Tensor, output: torch.Tensor) -> int:
        """The bytes of PyTorch's own kernels: one image's columns, for a matrix product.

        ConvolutionMM2d.cu, NaiveDilatedConvolution.cu and NaiveConvolutionTranspose2d.cu and 3d.cu
        in aten/src/ATen/native/cuda. Groups are computed one after the other.
        """
        rows = math.prod(weight.shape[1:])
        places = math.prod((input if self.transposed else output).shape[2:])
        return rows * places * weight.element_size()

    def question(
        self, operation: tuple, input: torch.Tensor, weight: torch.Tensor, output: torch.Tensor
    ) -> cudnn.Question:
        """What cuDNN is asked about a pass; the tensors are those of the forward pass.

        A transposed convolution is the backward pass of another one, from its output to its input.
        """
        tensors = (output, weight, input) if self.transposed else (input, weight, output)
        if self.transposed:
            swapped = {cudnn.FORWARD: cudnn.DATA, cudnn.DATA: cudnn.FORWARD}
            operation = swapped.get(operation, operation)
        flat = weight.dim() == 3  # PyTorch's `view1d_as_2d`: a height of 1
        return cudnn.Question(
            operation,
            weight.dtype,
            tuple((*one.shape[:2], *(1,) * flat, *one.shape[2:]) for one in tensors),
            tuple(map(_alignment, tensors)),
            self.layout != torch.contiguous_format,
            (*(0,) * flat, *self.padding),
            (*(1,) * flat, *self.stride),
            (*(1,) * flat, *self.dilation),
        )


class Plans:
    """The workspaces (bytes) of the plans for one question; a plan is made when it is looked at."""

    def __init__(self, workspaces: Iterator[int]) -> None:
        self.known: list[int] = []
        self.others = workspaces
        self.tried = False  # all of them, for `torch.backends.cudnn.benchmark`

    def __iter__(self) -> Iterator[int]:
        yield from self.known
        for size in self.others:
            self.known.append(size)
            yield size


class Convolutions:
    """Books convolutions on a GPU of a model."""

    def __init__(self, model: Model, notes: list[str]) -> None:
        self.model, self.notes = model, notes
        self.plans: dict[tuple, Plans] = {}

    @functools.cached_property
    def library(self) -> cudnn.Library | None:
        """cuDNN, from the first convolution on; None if it cannot be asked."""
        try:
            library = cudnn.Library(cudnn_properties(self.model))
        except (cudnn.Unanswered, ValueError) as reason:
            self.notes.append(f"cuDNN's workspaces for convolutions are not counted: {reason}")
            return None
        self.notes.append(f"the workspaces of convolutions are those of cuDNN {library.version}")
        return library

    def forward(self, storages: Storages, op, args: tuple, output: torch.Tensor) -> None:
        """Book `aten.convolution`: the output, and what is taken after it."""
        input, weight, _, *options = args
        call = self._call(storages, input, weight, options)
        if call is None:
            storages.book(output, op, args)
            return
        copies = storages.take(call.copied(input), input)
        storages.book(output, op, args)
        copies += storages.take(call.copied(weight), input)
        self._pass(storages, call, cudnn.FORWARD, input, weight, output)
        storages.give_back(copies)

    def backward(self, storages: Storages, op, args: tuple, gradients: tuple) -> None:
        """Book `aten.convolution_backward`: each gradient, and what is taken after it."""
        gradient, input, weight, _, *options, wanted = args
        call = self._call(storages, input, weight, options)
        if call is None:
            storages.book(gradients, op, args)
            return
        copies = storages.take(call.copied(input) * wanted[1] + call.copied(gradient), input)
        of_input, of_weight, of_bias = gradients
        if wanted[0]:
            storages.book(of_input, op, args)
            copy = storages.take(call.copied(weight), input)
            self._pass(storages, call, cudnn.DATA, of_input, weight, gradient)
            storages.give_back(copy)
        if wanted[1]:
            storages.book(of_weight, op, args)
            self._pass(storages, call, cudnn.FILTER, input, of_weight, gradient)
        storages.give_back(copies)
        storages.book(of_bias, op, args)

    def _call(
        self, storages: Storages, input: torch.Tensor, weight: torch.Tensor, options: list
    ) -> Call | None:
        """The convolution; None if nothing is known of it (PyTorch was built without CUDA, say)."""
        here = input.device.type == "cuda" and torch.backends.cudnn.is_available()
        if storages.pause or not here or not input.numel() or not weight.numel():
            return None
        names = ("stride", "padding", "dilation", "transposed", "output_padding", "groups")
        named = dict(zip(names, options, strict=True))
        with input.fake_mode.as_cuda():
            kernel, layout = compat.convolution_kernel(input, weight, **named)
        spread = [
            tuple(named[name]) * (1 if len(named[name]) > 1 else weight.dim() - 2)
            for name in ("stride", "padding", "dilation")
        ]
        return Call(kernel, layout, named["transposed"], *spread)

    def _pass(self, storages: Storages, call: Call, operation: tuple, *tensors) -> None:
        """Book what the kernel takes in a pass with input, weight and output."""
        size = 0
        if call.kernel.startswith("Slow"):
            size = call.columns(*tensors)
        elif call.kernel.startswith("Cudnn") and self.library:
            size = self._workspace(storages, call.question(operation, *tensors), tensors[0])
        storages.give_back(storages.take([size] if size else [], tensors[0]))

    def _workspace(self, storages: Storages, question: cudnn.Question, input: torch.Tensor) -> int:
        """The workspace of one pass (`run_single_conv` in Conv_v8.cpp), after benchmarking."""
        refused = _refused(question.dtype)
        plans = self.plans.get((question, refused))
        if plans is None:
            plans = self.plans[question, refused] = Plans(self._workspaces(question, refused))
        # where memory is scarce, the allocator gives back what it keeps unused
        free = self.model.memory - self.model.context - torch.cuda.memory_allocated(input.device)
        if torch.backends.cudnn.benchmark and not plans.tried:
            plans.tried = True
            largest = max((size for size in plans if size <= free), default=0)
            storages.give_back(storages.take([largest] if largest else [], input))
            storages.empty()
        for size in plans:
            if size <= free:
                return size
        return min(plans.known, default=0)

    def _workspaces(self, question: cudnn.Question, refused: frozenset[int]) -> Iterator[int]:
        none = True
        for size in self.library.workspaces(question, cudnn.INSTANT, refused):
            none = False
            yield size
        if none:
            self.notes.append(NO_PLAN)
        yield from self.library.workspaces(question, cudnn.FALLBACK, refused)


def _alignment(tensor: torch.Tensor) -> int:
    """The alignment of a tensor's data, in bytes. The allocator's blocks are aligned to 512."""
    return math.gcd(ALIGNMENT, tensor.storage_offset() * tensor.element_size())


def _refused(dtype: torch.dtype) -> frozenset[int]:
    """The numerical notes of engines that PyTorch does not use (`filterEngineConfigs`)."""
    refused = {cudnn.DOWN_CONVERT_INPUTS}
    if torch.backends.cudnn.deterministic or torch.are_deterministic_algorithms_enabled():
        refused.add(cudnn.NONDETERMINISTIC)
    if dtype == torch.float32 and torch.backends.cudnn.conv.fp32_precision != "tf32":
        refused.add(cudnn.TENSOR_CORE)
    return frozenset(refused)


def install(model: Model, notes: list[str]) -> None:
    """Book convolutions as on a GPU of this model.

    Which cuDNN answered, or why none did, is added to `notes` at the first convolution.
    """
    convolutions = Convolutions(model, notes)
    register(aten.convolution.default, convolution=True, book=convolutions.forward)
    register(aten.convolution_backward.default, convolution=True, book=convolutions.backward)
