"""safetensors: of a file, the header is read and written, which holds all shapes."""

import io
import json
import struct
import sys
from types import ModuleType

import torch

from vramcast.libraries.context import Context
from vramcast.when_imported import when_imported

TYPES = {  # the names in the header, by the types' in PyTorch
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64",
    "int32": "I32", "int16": "I16", "int8": "I8", "uint64": "U64", "uint32": "U32",
    "uint16": "U16", "uint8": "U8", "bool": "BOOL", "complex64": "C64", "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
}  # fmt: skip
DTYPES = {name: getattr(torch, dtype) for dtype, name in TYPES.items()}


def install(context: Context) -> None:
    """Replace what C++ reads and writes."""
    when_imported("safetensors", _package)
    when_imported("safetensors.torch", _torch)


def _package(module: ModuleType) -> None:
    original = module.safe_open

    def safe_open(filename, framework, device="cpu", **options):
        if framework not in ("pt", "torch", "pytorch"):
            return original(filename, framework, device, **options)
        with open(filename, "rb") as file:
            return Opened(file, device)

    module.safe_open = safe_open


def _torch(module: ModuleType) -> None:
    def save(tensors, metadata=None) -> bytes:
        header, end = {"__metadata__": metadata or {}}, 0
        for name, tensor in tensors.items():
            start, end = end, end + tensor.numel() * tensor.element_size()
            kind = TYPES[str(tensor.dtype).removeprefix("torch.")]
            shape = list(tensor.shape)
            header[name] = {"dtype": kind, "shape": shape, "data_offsets": [start, end]}
        text = json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text

    def save_file(tensors, filename, metadata=None) -> None:
        with open(filename, "wb") as file:
            file.write(save(tensors, metadata))

    def load(data) -> dict[str, torch.Tensor]:
        return Opened(io.BytesIO(data), "cpu").get_tensors()

    module.save, module.save_file, module.load = save, save_file, load
    module.safe_open = sys.modules["safetensors"].safe_open  # which it may have from before


class Opened:
    """In the place of an open file of safetensors."""

    def __init__(self, file, device) -> None:
        (length,) = struct.unpack("<Q", file.read(8))
        self._header = json.loads(file.read(length))
        self._metadata = self._header.pop("__metadata__", {})
        self._device = device

    def __enter__(self) -> "Opened":
        return self

    def __exit__(self, *exception) -> None:
        pass

    def metadata(self) -> dict[str, str]:
        return self._metadata

    def keys(self) -> list[str]:
        return list(self._header)

    offset_keys = keys

    def get_tensor(self, name: str) -> torch.Tensor:
        told = self._header[name]
        return torch.empty(told["shape"], dtype=DTYPES[told["dtype"]], device=self._device)

    def get_tensors(self) -> dict[str, torch.Tensor]:
        return {name: self.get_tensor(name) for name in self._header}

    def get_slice(self, name: str) -> "Slice":
        return Slice(self, name, self._header[name])


class Slice:
    """A tensor of which a part is read."""

    def __init__(self, opened: Opened, name: str, told: dict) -> None:
        self._opened, self._name, self._told = opened, name, told

    def get_shape(self) -> list[int]:
        return self._told["shape"]

    def get_dtype(self) -> str:
        return self._told["dtype"]

    def __getitem__(self, part) -> torch.Tensor:
        return self._opened.get_tensor(self._name)[part]
