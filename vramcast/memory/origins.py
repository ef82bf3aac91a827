"""Where tensors come from that may stay: shape, type, line and module of each."""

import sys
from dataclasses import dataclass

from torch import Tensor

from vramcast.memory.storages import Storage


@dataclass(frozen=True)
class Origin:
    """Where one storage comes from."""

    number: int  # in the order in which they were made
    shape: tuple[int, ...]
    dtype: str
    line: int | None  # of the script

    def told(self, storage: Storage) -> str:
        """In words, as "line 7: addmm in head (Linear), [32, 10] float32"."""
        where = f"line {self.line}: " if self.line else ""
        op = storage.op.removeprefix("aten.").removesuffix(".default")
        module = f" in {storage.module}" if storage.module else ""
        return f"{where}{op}{module}, {list(self.shape)} {self.dtype}"


class Origins:
    """Remembers the origin of each tensor that is made, from the first suspicion on."""

    def __init__(self, script: str) -> None:
        self.script = script
        self.on = False
        self.keep = False  # also what does not live any more
        self.count = 0  # tensors so far
        self.of: dict[Storage, Origin] = {}

    def note(self, storage: Storage, tensor: Tensor) -> None:
        """Called with each new storage, and the tensor that it was made for."""
        frame = sys._getframe(1)
        while frame is not None and frame.f_code.co_filename != self.script:
            frame = frame.f_back
        kind = str(tensor.dtype).removeprefix("torch.")
        line = frame.f_lineno if frame else None
        self.of[storage] = Origin(self.count, tuple(tensor.shape), kind, line)
        self.count += 1

    def forget(self) -> None:
        """Forget what does not live any more, if that is not wanted later."""
        if self.keep:
            return
        self.of = {storage: origin for storage, origin in self.of.items() if storage.alive}
