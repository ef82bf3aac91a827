"""Convolutions: what PyTorch asks cuDNN for each, and what it takes on the GPU meanwhile.

As in aten/src/ATen/native/Convolution.cpp, cudnn/ConvShared.cpp and cudnn/Conv_v8.cpp (torch 2.9 to
2.14). For a pass, PyTorch takes the first plan of cuDNN's heuristics that can be made and for whose
workspace there is memory. With `torch.backends.cudnn.benchmark`, it first tries all plans for a
shape, in a workspace for the largest of them, and empties its cache afterwards. Which plan it then
finds the fastest cannot be known without the GPU: counted is the heuristics' first.

cuDNN itself is asked (cudnn_plans.py), in the version that is installed here. Others choose others.
"""

import functools
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from vramcast import compat
from vramcast.gpus import Model
from vramcast.memory.storages import Storages
from vramcast.operators import cudnn_plans
from vramcast.operators.cudnn_devices import cudnn_properties
from vramcast.operators.cudnn_plans import DATA, FILTER, FORWARD, Question
from vramcast.operators.registry import register

aten = torch.ops.aten
ALIGNMENT = 32  # bytes: the largest that PyTorch tells (`getAlignment` in Conv_v8.cpp)


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


@dataclass(frozen=True)
class Call:
    """A convolution that cuDNN computes, forward or backward."""

    layout: torch.memory_format
    transposed: bool
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]

    def question(
        self, operation: tuple, input: torch.Tensor, weight: torch.Tensor, output: torch.Tensor
    ) -> Question:
        """What cuDNN is asked about a pass; the tensors are those of the forward pass.

        A transposed convolution is the backward pass of another one, from its output to its input.
        """
        tensors = (output, weight, input) if self.transposed else (input, weight, output)
        if self.transposed:
            operation = {FORWARD: DATA, DATA: FORWARD}.get(operation, operation)
        flat = weight.dim() == 3  # PyTorch's `view1d_as_2d`: a height of 1
        return Question(
            operation,
            weight.dtype,
            tuple((*one.shape[:2], *(1,) * flat, *one.shape[2:]) for one in tensors),
            tuple(map(_alignment, tensors)),
            self.layout != torch.contiguous_format,
            (*(0,) * flat, *self.padding),
            (*(1,) * flat, *self.stride),
            (*(1,) * flat, *self.dilation),
        )

    def copied(self, tensor: torch.Tensor) -> list[int]:
        """The bytes of a copy in cuDNN's layout, if PyTorch makes one."""
        layout = self.layout if tensor.dim() > 3 else torch.contiguous_format
        there = tensor.is_contiguous(memory_format=layout)
        return [] if there else [tensor.numel() * tensor.element_size()]


class Convolutions:
    """Books convolutions on a GPU of a model."""

    def __init__(self, model: Model, notes: list[str]) -> None:
        self.model, self.notes = model, notes
        self.answers: dict[tuple, Plans] = {}

    @functools.cached_property
    def library(self) -> cudnn_plans.Library | None:
        """cuDNN, from the first convolution on; None if it cannot be asked."""
        try:
            library = cudnn_plans.Library(cudnn_properties(self.model))
        except (cudnn_plans.Unanswered, ValueError) as reason:
            self.notes.append(f"cuDNN's workspaces for convolutions are not counted: {reason}")
            return None
        self.notes.append(f"the workspaces of convolutions are those of cuDNN {library.version}")
        return library

    def forward(self, storages: Storages, op, args: tuple, output: torch.Tensor) -> None:
        """Book `aten.convolution`: the output, and the workspace after it."""
        input, weight, _, *options = args
        call = self._call(storages, input, weight, options)
        if call is None:
            storages.book(output, op, args)
            return
        copies = storages.take(call.copied(input))
        storages.book(output, op, args)
        copies += storages.take(call.copied(weight))
        self._run(storages, call.question(FORWARD, input, weight, output))
        storages.give_back(copies)

    def backward(self, storages: Storages, op, args: tuple, gradients: tuple) -> None:
        """Book `aten.convolution_backward`: each gradient, and the workspace after it."""
        gradient, input, weight, _, *options, wanted = args
        call = self._call(storages, input, weight, options)
        if call is None:
            storages.book(gradients, op, args)
            return
        copies = storages.take(call.copied(input) * wanted[1] + call.copied(gradient))
        of_input, of_weight, of_bias = gradients
        if wanted[0]:
            storages.book(of_input, op, args)
            copy = storages.take(call.copied(weight))
            self._run(storages, call.question(DATA, of_input, weight, gradient))
            storages.give_back(copy)
        if wanted[1]:
            storages.book(of_weight, op, args)
            self._run(storages, call.question(FILTER, input, of_weight, gradient))
        storages.give_back(copies)
        storages.book(of_bias, op, args)

    def _call(
        self, storages: Storages, input: torch.Tensor, weight: torch.Tensor, options: list
    ) -> Call | None:
        """The convolution if cuDNN computes it, and can be asked; else None."""
        names = ("stride", "padding", "dilation", "transposed", "output_padding", "groups")
        named = dict(zip(names, options, strict=True))
        sizes = itertools.chain(input.shape, weight.shape)
        if storages.pause or input.device.type != "cuda" or 0 in sizes or not self.library:
            return None
        with input.fake_mode.as_cuda():
            layout = compat.cudnn_layout(input, weight, **named)
        if layout is None or weight.dtype not in cudnn_plans.TYPES:
            return None
        spread = [
            tuple(named[name]) * (1 if len(named[name]) > 1 else weight.dim() - 2)
            for name in ("stride", "padding", "dilation")
        ]
        return Call(layout, named["transposed"], *spread)

    def _run(self, storages: Storages, question: Question) -> None:
        """Book the workspace of one pass (`run_single_conv` in Conv_v8.cpp)."""
        refused = _refused(question.dtype)
        plans = self.answers.get((question, refused))
        if plans is None:
            plans = Plans(self._workspaces(question, refused))
            self.answers[question, refused] = plans
        # cuDNN may take what the allocator keeps unused: it is given back where memory is scarce
        free = self.model.memory - self.model.context - torch.cuda.memory_allocated()
        if torch.backends.cudnn.benchmark and not plans.tried:
            plans.tried = True
            _pass(storages, max((size for size in plans if size <= free), default=0))
            storages.empty()
        size = next((size for size in plans if size <= free), None)
        if size is None and not plans.known:
            self.notes.append(f"cuDNN {self.library.version} has no plan for a convolution")
        elif size is None:
            size = min(plans.known)
        _pass(storages, size or 0)

    def _workspaces(self, question: Question, refused: frozenset[int]) -> Iterator[int]:
        for mode in (cudnn_plans.INSTANT, cudnn_plans.FALLBACK):
            yield from self.library.workspaces(question, mode, refused)


def _pass(storages: Storages, size: int) -> None:
    """Take this many bytes, and give them back."""
    storages.give_back(storages.take([size] if size else []))


def _alignment(tensor: torch.Tensor) -> int:
    """The alignment of a tensor's data, in bytes. The allocator's blocks are aligned to 512."""
    return math.gcd(ALIGNMENT, tensor.storage_offset() * tensor.element_size())


def _refused(dtype: torch.dtype) -> frozenset[int]:
    """The numerical notes of engines that PyTorch does not use (`filterEngineConfigs`)."""
    refused = {cudnn_plans.DOWN_CONVERT_INPUTS}
    if torch.backends.cudnn.deterministic or torch.are_deterministic_algorithms_enabled():
        refused.add(cudnn_plans.NONDETERMINISTIC)
    if dtype == torch.float32 and torch.backends.cudnn.conv.fp32_precision != "tf32":
        refused.add(cudnn_plans.TENSOR_CORE)
    return frozenset(refused)


def install(model: Model, notes: list[str]) -> None:
    """Book convolutions as on a GPU of this model.

    Which cuDNN answered, or why none did, is added to `notes` at the first convolution.
    """
    convolutions = Convolutions(model, notes)
    register(aten.convolution.default, convolution=True, book=convolutions.forward)
    register(aten.convolution_backward.default, convolution=True, book=convolutions.backward)
