"""The storages of tensors: when each is allocated and released, and which streams use it."""

import contextlib
import weakref
from collections.abc import Callable, Iterable, Iterator

from torch import Tensor, strided
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from torch.utils._pytree import tree_leaves

from vramcast import compat
from vramcast.memory.blocks import rounded

COPIES = 2000  # blocks at most that stand for what a loop would keep
GPUS = 100  # that one process can use
STREAMS = 2**20  # the default stream of a GPU has the number of the GPU times this; others follow


class Storage:
    """One allocation: its bytes, and what is known about it."""

    __slots__ = (
        "alive", "block", "device", "gpu", "kind", "module", "op", "phase", "pinned", "saved",
        "size",
    )  # fmt: skip

    def __init__(
        self, size: int, device: str, phase: str, module: str, op: str, gpu: int = 0
    ) -> None:
        """`device`: "cuda" or "cpu"; `gpu`: the number of the GPU (without a meaning on a CPU)."""
        self.size, self.device, self.gpu = size, device, gpu
        self.phase, self.module, self.op = phase, module, op
        self.alive = True
        # bytes of its block on the GPU; the allocator (watched.py) knows if it is larger than that
        self.block = rounded(size) if size else 0
        self.kind: str | None = None  # one of KINDS, once there is evidence
        self.pinned = False  # on the host, for copies to and from the GPU
        self.saved = False  # outlived the call of the module that made it


class _Watched(weakref.ref):
    """A weak reference that calls `freed(key)` at the end; lighter than `weakref.finalize`."""

    __slots__ = ("freed", "key")

    def __new__(cls, storage, key: int, freed: Callable[[int], None]):
        return super().__new__(cls, storage, lambda ref: ref.freed(ref.key))

    def __init__(self, storage, key: int, freed: Callable[[int], None]) -> None:
        super().__init__(storage)
        self.key, self.freed = key, freed


class Storages:
    """Keeps a log of the storages of tensors on `device` ("cuda") and on the host ("cpu").

    `events` is the log, in the order in which things happened: ("allocate", storage, stream),
    ("free", storage, None), ("use", storage, stream), ("record", None, (event, stream)), ("follow",
    None, (stream, event)), ("wait", None, event or None), ("empty", None, None), ("settings", None,
    what) and ("mark", None, what). The methods below book such events.
    """

    def __init__(self, sees: Callable[[str, Storage, object], None] = lambda *event: None) -> None:
        self.events: list[tuple] = []
        self.sees = sees  # told each event as it happens
        self.storages: dict[int, Storage] = {}  # alive, by address
        self.watched: dict[int, _Watched] = {}
        self.copies: dict[Storage, list[Storage]] = {}  # see `copy`
        self.phase = "setup"
        self.gpu = 0  # the current one
        self.streams = [gpu * STREAMS for gpu in range(GPUS)]  # the current one of each GPU
        self.others = False  # whether a GPU beside the first one has been used
        self.pause = False
        # called, as long as it is set, before a storage of the GPU is booked
        self.configure: Callable[[], None] | None = None

    @property
    def stream(self) -> int:
        """The current stream of the current GPU."""
        return self.streams[self.gpu]

    def module(self) -> str:
        """The name of the running module; a subclass knows it."""
        return ""

    def made(self, storage: Storage, tensor: Tensor, op: str, inputs: object) -> None:
        """Called with a new tensor and its storage; for subclasses."""

    def allocated(self, storage: Storage) -> None:
        """Called with each allocation; for subclasses."""

    def book(self, result: object, op: object, inputs: object = ()) -> None:
        """Book the storages in an operator's `result` that are new."""
        if self.pause:
            return
        for tensor in (result,) if isinstance(result, Tensor) else tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._book(tensor, op, inputs)

    def _book(self, tensor: Tensor, op: object, inputs: object, device=None) -> None:
        device = device or tensor.device
        try:
            raw = tensor.untyped_storage()
        except NotImplementedError:  # it has none of its own
            for part in compat.held(tensor):
                self._book(part, op, inputs, device)
            return
        key, size = raw._cdata, raw.nbytes()
        storage = self.storages.get(key)
        if storage is not None:
            if storage.size != size:
                self.resized(raw, size)  # in place, as FSDP does
            return
        if device.type not in ("cuda", "cpu"):
            return
        storage = self._allocate(key, size, device.type, str(op), None, device.index or 0)
        self.watched[key] = _Watched(raw, key, self._gone)
        self.made(storage, tensor, str(op), inputs)

    def _allocate(
        self, key: int, size: int, device: str, op: str, kind: str | None, gpu: int
    ) -> Storage:
        if self.configure and device == "cuda":
            self.configure()
        if gpu:
            self.others = True
        storage = Storage(size, device, self.phase, self.module(), op, gpu)
        storage.kind = kind
        self.storages[key] = storage
        self._log("allocate", storage, self.streams[gpu])
        self.allocated(storage)
        return storage

    def _gone(self, key: int) -> None:
        del self.watched[key]
        self._free(key)

    def _free(self, key: int) -> None:
        storage = self.storages.pop(key, None)
        if storage is not None:
            storage.alive = False
            self._log("free", storage, None)
            if storage in self.copies:
                self.give_back(self.copies.pop(storage))

    def copy(self, storage: Storage, size: int) -> None:
        """Book so many bytes more like a storage, in blocks of its size, as long as it lives."""
        block = max(storage.size, size // COPIES)
        copies = self.copies.setdefault(storage, [])
        while storage.alive and size > 0:
            copy = Storage(
                min(block, size), storage.device, storage.phase, storage.module, storage.op,
                storage.gpu,
            )  # fmt: skip
            copy.kind, copy.saved = storage.kind, storage.saved
            copies.append(copy)
            self._log("allocate", copy, self.streams[storage.gpu])
            size -= block

    def resized(self, tensor_storage, size: int) -> None:
        """Book that a storage now has `size` bytes, perhaps 0."""
        storage = self.storages.get(tensor_storage._cdata)
        if storage is not None and storage.size != size:
            self._free(tensor_storage._cdata)
            new = self._allocate(
                tensor_storage._cdata, size, storage.device, "resize_", storage.kind, storage.gpu
            )
            new.pinned = storage.pinned

    def find(self, tensor: Tensor) -> Storage | None:
        """The booked storage of a tensor; of a sharded one, that of the part on this rank.

        Of a sparse one, that of its values.
        """
        tensor = getattr(tensor, "_local_tensor", tensor)
        try:
            return self.storages.get(tensor.untyped_storage()._cdata)
        except NotImplementedError:
            inner = compat.held(tensor)
            return self.find(inner[-1]) if inner else None

    def parts(self, tensor: Tensor) -> list[Tensor]:
        """The tensors that a tensor consists of, each with one storage; most often itself.

        Codes and scales if quantized, indices and values if sparse.
        """
        tensor = getattr(tensor, "_local_tensor", tensor)
        if is_traceable_wrapper_subclass(tensor):
            return [getattr(tensor, name) for name in tensor.__tensor_flatten__()[0]]
        return [tensor] if tensor.layout == strided else compat.held(tensor)

    def label(self, tensors: Iterable[object], kind: str) -> None:
        """Note what the storages of these tensors are for."""
        for tensor in tensors:
            if isinstance(tensor, Tensor):
                for storage in map(self.find, self.parts(tensor)):
                    if storage is not None:
                        storage.kind = kind

    def pin(self, tensor: Tensor) -> None:
        """Note that a tensor on the host is in pinned memory."""
        storage = self.find(tensor)
        if storage is not None:
            storage.pinned = storage.device == "cpu"

    def _log(self, what: str, storage: Storage | None, other: object) -> None:
        self.events.append((what, storage, other))
        self.sees(what, storage, other)

    def use(self, tensor: Tensor, stream: int) -> None:
        """Book `tensor.record_stream(stream)`."""
        for storage in map(self.find, self.parts(tensor)):
            if storage is not None:
                self._log("use", storage, stream)

    def record(self, event: object, stream: int) -> None:
        """Book that an event was recorded in a stream."""
        self._log("record", None, (event, stream))

    def follow(self, stream: int, event: object) -> None:
        """Book that a stream waits for an event."""
        self._log("follow", None, (stream, event))

    def wait(self, event: object | None) -> None:
        """Book that the CPU waited for an event; None: for all work of the GPU."""
        self._log("wait", None, event)

    def wait_here(self, gpu: int) -> None:
        """Book that the CPU waited for the current stream of a GPU."""
        here = object()
        self.record(here, self.streams[gpu])
        self.wait(here)

    def meet(self, *gpus: int) -> None:
        """Book that the current streams of two GPUs waited for each other."""
        one, other = (self.streams[gpu] for gpu in gpus)
        for stream, following in ((one, other), (other, one)):
            here = object()
            self.record(here, stream)
            self.follow(following, here)

    def empty(self) -> None:
        """Book `torch.cuda.empty_cache()`."""
        self._log("empty", None, None)

    def settings(self, settings: object) -> None:
        """Book that the allocator has other settings (allocator_settings.py) from now on."""
        self._log("settings", None, settings)

    def mark(self, what: str) -> None:
        """Book that the script has come to a point of this name."""
        self._log("mark", None, what)

    def take(self, sizes: Iterable[int], beside: Tensor) -> list[Storage]:
        """Book blocks of these sizes that a library takes on the GPU of a tensor, without one."""
        gpu = beside.device.index or 0
        taken = [Storage(size, "cuda", self.phase, self.module(), "library", gpu) for size in sizes]
        for storage in taken:
            storage.kind = "temporaries"
            self._log("allocate", storage, self.streams[gpu])
        return taken

    def give_back(self, taken: list[Storage]) -> None:
        """Book that a library gives back what it took."""
        for storage in taken:
            storage.alive = False
            self._log("free", storage, None)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Book nothing within this context, where PyTorch makes tensors only for their shapes."""
        outer, self.pause = self.pause, True
        try:
            yield
        finally:
            self.pause = outer
