"""What cuDNN answers: the workspaces of its plans for a convolution, on a GPU that is not here.

cuDNN 9.8 and newer choose engines and make plans for a device that is described in JSON, without a
GPU or a driver (CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR). The library that PyTorch brings is asked by
its backend interface, in C: six functions, and numbers that have stayed since 9.0. The Python
package for it, nvidia-cudnn-frontend, would need some 580 MB with what it depends on, and orders
and filters engines in its own way instead of PyTorch's.

Some engines cannot be asked about: attention's are compiled for the GPU, for which cuDNN needs
CUDA's driver; and what a batch norm reserves is told by a function that needs a handle, which there
is none of without a GPU (9.24, tried).

The numbers are those of cudnn_graph.h, which is installed with the library.
"""

import contextlib
import ctypes
import json
from collections.abc import Iterator
from dataclasses import dataclass

import torch

LIBRARY = "libcudnn.so.9"  # by this name the dynamic linker finds the one that PyTorch has loaded
OLDEST = 90800  # CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR came with 9.8

# cudnnBackendDescriptorType_t
CONVOLUTION, ENGINE, CONFIG, HEURISTICS, PLAN, GRAPH, TENSOR, DEVICE = 1, 2, 3, 4, 5, 15, 17, 38
# cudnnBackendAttributeType_t, and what holds one element
DATA_TYPE, INT64, FLOAT, CONVOLUTION_MODE, HEURISTICS_MODE = 1, 3, 4, 7, 8
NOTE, DESCRIPTOR, CHAR = 11, 15, 24
ELEMENTS = {INT64: ctypes.c_int64, FLOAT: ctypes.c_float, DESCRIPTOR: ctypes.c_void_p}
# cudnnDataType_t
TYPES = {torch.float32: 0, torch.float64: 1, torch.float16: 2, torch.bfloat16: 9}
CROSS_CORRELATION = 1  # cudnnConvolutionMode_t
# cudnnBackendHeurMode_t
INSTANT, FALLBACK = 0, 2
# cudnnBackendNumericalNote_t: at most 10 in 9.24
TENSOR_CORE, DOWN_CONVERT_INPUTS, NONDETERMINISTIC = 0, 1, 4
MOST_NOTES = 32
# By operation: its descriptor, and the attributes for x, w, y, convolution, alpha and beta
# (cudnnBackendAttributeName_t). y is the result of the forward pass.
FORWARD = (10, (704, 703, 705, 702, 700, 701))
DATA = (12, (710, 709, 711, 708, 706, 707))
FILTER = (11, (716, 715, 717, 714, 712, 713))


class Unanswered(Exception):
    """cuDNN cannot be asked; the message says why."""


class _Refused(Exception):
    """cuDNN refused a descriptor."""


@dataclass(frozen=True)
class Question:
    """A convolution, as it is described to cuDNN."""

    operation: tuple  # FORWARD, DATA or FILTER
    dtype: torch.dtype
    shapes: tuple[tuple[int, ...], ...]  # of x, w and y
    alignments: tuple[int, ...]  # bytes, likewise
    channels_last: bool
    padding: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]


class Library:
    """cuDNN, asked about one GPU."""

    def __init__(self, properties: dict) -> None:
        """`properties`: the GPU's, by the names of cuDNN's description of a device.

        Raises Unanswered if cuDNN is not here, is too old, or does not know such a GPU.
        """
        try:
            self.c = ctypes.CDLL(LIBRARY)
        except OSError:
            raise Unanswered("cuDNN is not installed") from None
        self.c.cudnnGetVersion.restype = ctypes.c_size_t
        number = self.c.cudnnGetVersion()
        self.version = f"{number // 10000}.{number // 100 % 100}.{number % 100}"
        if number < OLDEST:
            raise Unanswered(f"cuDNN {self.version} answers only where the GPU is")
        self.kept, text = contextlib.ExitStack(), json.dumps(properties).encode()
        try:
            self.device = self._made(self.kept, DEVICE, (2702, CHAR, text))
        except _Refused:
            raise Unanswered(f"cuDNN {self.version} does not know this GPU") from None

    def workspaces(self, question: Question, mode: int, refused: frozenset[int]) -> Iterator[int]:
        """Bytes of workspace of the plans that cuDNN can make, in the order of its heuristics.

        `mode`: INSTANT or FALLBACK. Engines with one of the `refused` numerical notes are left out.
        Nothing comes if cuDNN knows no engine for this.
        """
        with contextlib.ExitStack() as made:
            try:
                configs = self._configs(made, self._graph(made, question), mode)
            except _Refused:
                return
            for config in configs:
                if refused.isdisjoint(self._notes(made, config)):
                    with contextlib.suppress(_Refused):
                        plan = self._made(
                            made, PLAN, (401, DESCRIPTOR, config), (407, DESCRIPTOR, self.device)
                        )
                        yield self._numbers(plan, 402, INT64, 1)[0]

    def _graph(self, made: contextlib.ExitStack, question: Question):
        kind, (*places, alpha, beta) = question.operation
        tensors = [
            self._tensor(made, name, question, shape, alignment)
            for name, shape, alignment in zip(
                b"xwy", question.shapes, question.alignments, strict=True
            )
        ]
        double = question.dtype == torch.float64
        convolution = self._made(
            made, CONVOLUTION,
            (100, DATA_TYPE, TYPES[torch.float64 if double else torch.float32]),
            (101, CONVOLUTION_MODE, CROSS_CORRELATION),
            (102, INT64, question.dilation),
            (103, INT64, question.stride),
            (104, INT64, question.padding),
            (105, INT64, question.padding),
            (106, INT64, len(question.padding)),
        )  # fmt: skip
        operation = self._made(
            made, kind,
            *((place, DESCRIPTOR, one)
              for place, one in zip(places, (*tensors, convolution), strict=True)),
            (alpha, FLOAT, 1.0),
            (beta, FLOAT, 0.0),
        )  # fmt: skip
        return self._made(made, GRAPH, (801, DESCRIPTOR, operation))

    def _tensor(self, made, name: int, question: Question, shape: tuple, alignment: int):
        return self._made(
            made, TENSOR,
            (900, INT64, alignment),
            (901, DATA_TYPE, TYPES[question.dtype]),
            (902, INT64, shape),
            (903, INT64, packed(shape, question.channels_last)),
            (906, INT64, name),
        )  # fmt: skip

    def _configs(self, made: contextlib.ExitStack, graph, mode: int) -> list:
        """Engines with their settings, the first choice first."""
        heuristics = self._made(
            made, HEURISTICS,
            (200, HEURISTICS_MODE, mode), (201, DESCRIPTOR, graph), (204, DESCRIPTOR, self.device),
        )  # fmt: skip
        count = ctypes.c_int64()
        self._check(
            self.c.cudnnBackendGetAttribute(
                heuristics, 202, DESCRIPTOR, ctypes.c_int64(0), ctypes.byref(count), None
            )
        )
        empty = [self._new(made, CONFIG) for _ in range(count.value)]
        return empty[: len(self._numbers(heuristics, 202, DESCRIPTOR, len(empty), empty))]

    def _notes(self, made: contextlib.ExitStack, config) -> set[int]:
        """What cuDNN notes of the arithmetic of an engine."""
        engine = self._new(made, ENGINE)
        self._numbers(config, 300, DESCRIPTOR, 1, [engine])
        return set(self._numbers(engine, 1303, NOTE, MOST_NOTES))

    def _new(self, made: contextlib.ExitStack, kind: int):
        one = ctypes.c_void_p()
        self._check(self.c.cudnnBackendCreateDescriptor(kind, ctypes.byref(one)))
        made.callback(self.c.cudnnBackendDestroyDescriptor, one)
        return one

    def _made(self, made: contextlib.ExitStack, kind: int, *attributes: tuple):
        """A descriptor with these attributes (number, type, value or values), for use."""
        one = self._new(made, kind)
        for number, of, value in attributes:
            values = value if isinstance(value, (tuple, bytes)) else (value,)
            array = (
                values if of == CHAR else (ELEMENTS.get(of, ctypes.c_int) * len(values))(*values)
            )
            count = ctypes.c_int64(len(values))
            self._check(self.c.cudnnBackendSetAttribute(one, number, of, count, array))
        self._check(self.c.cudnnBackendFinalize(one))
        return one

    def _numbers(self, one, number: int, of: int, most: int, into: tuple | list = ()) -> list[int]:
        """The elements of an attribute; `into`: the descriptors that it fills."""
        array = (ELEMENTS.get(of, ctypes.c_int) * most)(*into)
        count = ctypes.c_int64()
        self._check(
            self.c.cudnnBackendGetAttribute(
                one, number, of, ctypes.c_int64(most), ctypes.byref(count), array
            )
        )
        return list(array[: min(count.value, most)])

    def _check(self, status: int) -> None:
        if status:
            raise _Refused(status)


def packed(shape: tuple[int, ...], channels_last: bool) -> tuple[int, ...]:
    """The strides of a tensor without gaps; channels are its dimension 1."""
    inner = (*range(2, len(shape)), 1) if channels_last else range(1, len(shape))
    strides, step = [0] * len(shape), 1
    for place in (*reversed(inner), 0):
        strides[place] = step
        step *= shape[place]
    return tuple(strides)
