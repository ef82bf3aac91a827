"""When each tensor's storage is allocated and released, where in the training, and what it is for.

The tracker books; it knows nothing about segments (allocator.py) and nothing about how tensors
without data come about (gpu.py), so it also works on real tensors on the CPU.
"""

import bisect
import contextlib
import weakref
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from torch.utils._pytree import tree_leaves

WRAPPERS = (
    "_forward_module.",
    "_orig_mod.",
    "_fsdp_wrapped_module.",
    "_checkpoint_wrapped_module.",
)


class Storage:
    """One allocation: its bytes and what has been learned about it."""

    __slots__ = ("alive", "device", "kind", "module", "op", "phase", "pinned", "saved", "size")

    def __init__(self, size: int, device: str, phase: str, module: str, op: str) -> None:
        self.size, self.device = size, device
        self.phase, self.module, self.op = phase, module, op
        self.alive = True
        self.kind: str | None = None  # one of KINDS, once there is evidence
        self.pinned = False  # on the host, for copies to and from the GPU
        self.saved = False  # outlived the call of the module that made it


class _Watched(weakref.ref):
    """Calls `freed(key)` when a storage is released; lighter than `weakref.finalize`."""

    __slots__ = ("freed", "key")

    def __new__(cls, storage, key: int, freed: Callable[[int], None]):
        return super().__new__(cls, storage, lambda ref: ref.freed(ref.key))

    def __init__(self, storage, key: int, freed: Callable[[int], None]) -> None:
        super().__init__(storage)
        self.key, self.freed = key, freed


class Tracker:
    """Books storages of tensors on `device` ("cuda") and on the host ("cpu").

    `events` is the log: ("allocate", storage, stream), ("free", storage), ("use", storage, stream),
    ("wait", stream or None), ("empty",), ("settings", what) and ("mark", what), in the order in
    which they happened. Each is filled up to three by None.
    """

    def __init__(self, sees: Callable[[str, Storage, object], None] = lambda *event: None) -> None:
        self.events: list[tuple] = []
        self.sees = sees  # told each event as it happens
        self.storages: dict[int, Storage] = {}  # alive, by address
        self.watched: dict[int, _Watched] = {}
        self.phase = "setup"
        self.stream = 0
        self.names: dict[int, str] = {}
        self.calls: list[tuple[str, list[Storage]]] = []  # modules' forward calls that run now
        self.roots: list[weakref.ref] = []
        self.sequence: list[tuple[int, str]] = []  # autograd's numbers at which a module began
        self.loose: list[Storage] = []  # made by the forward pass outside of modules
        self.steps = self.backwards = 0  # so far: backward passes, and those with a step after
        self._stepped = 0
        self.pause = False
        self.configure: Callable[[], None] | None = (
            None  # called as long as set, before the GPU's storages
        )

    # ------------------------------------------------------------------------------- storages

    def book(self, result: object, op: object, inputs: object = ()) -> None:
        """Book what storages an operator's `result` has that were not there before."""
        if self.pause:
            return
        for tensor in (result,) if isinstance(result, Tensor) else tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._book(tensor, op, inputs)

    def _book(self, tensor: Tensor, op: object, inputs: object) -> None:
        raw = tensor.untyped_storage()
        key, size = raw._cdata, raw.nbytes()
        storage = self.storages.get(key)
        if storage is not None:
            if storage.size != size:
                self.resized(raw, size)  # in place, as FSDP does
            return
        device = tensor.device.type
        if device not in ("cuda", "cpu"):
            return
        op = str(op)
        storage = self._allocate(key, size, device, op, None)
        self.watched[key] = _Watched(raw, key, self._gone)
        if storage.device == "cuda" and not self.calls and self.phase in ("setup", "forward"):
            sources = [self.find(leaf) for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor)]
            if "_to_copy" in op or "copy_" in op:
                if any(source is None or source.device == "cpu" for source in sources):
                    storage.kind = "inputs"
            elif not tensor.requires_grad and any(s and s.kind == "inputs" for s in sources):
                storage.kind = "inputs"

    def _allocate(self, key: int, size: int, device: str, op: str, kind: str | None) -> Storage:
        if self.configure and device == "cuda":
            self.configure()
        storage = Storage(size, device, self.phase, self.module(), op)
        storage.kind = kind
        self.storages[key] = storage
        self._log("allocate", storage, self.stream)
        if device == "cuda" and self.phase != "optimizer step" and torch.is_grad_enabled():
            if self.calls:
                self.calls[-1][1].append(storage)
            elif self.phase == "forward":
                self.loose.append(storage)
        return storage

    def _gone(self, key: int) -> None:
        del self.watched[key]
        self._free(key)

    def _free(self, key: int) -> None:
        storage = self.storages.pop(key, None)
        if storage is not None:
            storage.alive = False
            self._log("free", storage, None)

    def resized(self, tensor_storage, size: int) -> None:
        """Book that a storage was given `size` bytes, which may be none."""
        storage = self.storages.get(tensor_storage._cdata)
        if storage is not None and storage.size != size:
            self._free(tensor_storage._cdata)
            new = self._allocate(
                tensor_storage._cdata, size, storage.device, "resize_", storage.kind
            )
            new.pinned = storage.pinned

    def find(self, tensor: Tensor) -> Storage | None:
        """The booked storage of a tensor, or of the part of a sharded one that is here."""
        tensor = getattr(tensor, "_local_tensor", tensor)
        return self.storages.get(tensor.untyped_storage()._cdata)

    def parts(self, tensor: Tensor) -> list[Tensor]:
        """The tensors that one consists of: a quantized one's codes and scales, or itself."""
        tensor = getattr(tensor, "_local_tensor", tensor)
        if not is_traceable_wrapper_subclass(tensor):
            return [tensor]
        return [getattr(tensor, name) for name in tensor.__tensor_flatten__()[0]]

    def label(self, tensors: Iterable[object], kind: str) -> None:
        """Say what tensors' storages are for."""
        for tensor in tensors:
            if isinstance(tensor, Tensor):
                for storage in map(self.find, self.parts(tensor)):
                    if storage is not None:
                        storage.kind = kind

    def pin(self, tensor: Tensor) -> None:
        """Say that a tensor on the host is pinned there."""
        storage = self.find(tensor)
        if storage is not None:
            storage.pinned = storage.device == "cpu"

    def _log(self, what: str, storage: Storage | None, other: object) -> None:
        self.events.append((what, storage, other))
        self.sees(what, storage, other)

    def use(self, tensor: Tensor, stream: int) -> None:
        """Book `tensor.record_stream(stream)`."""
        storage = self.find(tensor)
        if storage is not None:
            self._log("use", storage, stream)

    def wait(self, stream: int | None) -> None:
        """Book that the CPU waited for a stream, or for all."""
        self._log("wait", None, stream)

    def empty(self) -> None:
        """Book `torch.cuda.empty_cache()`."""
        self._log("empty", None, None)

    def settings(self, settings: object) -> None:
        """Book that the allocator works by other settings (allocator_settings.py) from now on."""
        self._log("settings", None, settings)

    def mark(self, what: str) -> None:
        """Book that the script has come to a certain point."""
        self._log("mark", None, what)

    def workspace(self, size: int) -> None:
        """Book memory that a library takes at its first use and keeps."""
        storage = Storage(size, "cuda", self.phase, self.module(), "workspace")
        storage.kind = "temporaries"
        self._log("allocate", storage, self.stream)

    # --------------------------------------------------------------------- phases and modules

    def module(self) -> str:
        """The name of the module whose forward, or whose part of the backward pass, runs."""
        if self.calls:
            return self.calls[-1][0]
        if self.phase == "backward":
            node = torch._C._current_autograd_node()
            if node is not None:
                place = bisect.bisect_right(self.sequence, (node._sequence_nr(), "\uffff"))
                return self.sequence[place - 1][1] if place else ""
        return ""

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Book nothing meanwhile: tensors that PyTorch makes to ask for shapes are none."""
        outer, self.pause = self.pause, True
        try:
            yield
        finally:
            self.pause = outer

    def install(self) -> None:
        """Follow modules, backward passes and optimizers from now on. Cannot be undone."""
        torch.nn.modules.module.register_module_forward_pre_hook(self._enter)
        torch.nn.modules.module.register_module_forward_hook(self._leave, always_call=True)
        register_optimizer_step_pre_hook(self._before_step)
        register_optimizer_step_post_hook(self._after_step)
        run = torch.autograd._engine_run_backward

        def run_backward(*args, **kwargs):
            outer, self.phase = self.phase, "backward"
            self.backwards += 1
            for storage in self.loose:
                storage.saved = storage.alive
            self.loose = []
            try:
                return run(*args, **kwargs)
            finally:
                self.phase = outer
                self._label_roots()

        torch.autograd._engine_run_backward = run_backward
        torch.autograd.graph._engine_run_backward = run_backward

    def _enter(self, module, args) -> None:
        if not self.calls:
            self.mark("pass")
            if self.phase == "setup":
                self.mark("created")
                self.phase = "forward"
            if id(module) not in self.names:
                self._name(module)
            if all(root() is not module for root in self.roots):
                self.roots.append(weakref.ref(module))
            self._label_roots()
        elif id(module) not in self.names:
            self.names[id(module)] = type(module).__name__
        self.label(module.parameters(recurse=False), "parameters")
        name = self.names[id(module)]
        self.calls.append((name, []))
        self._began(name)

    def _leave(self, module, args, result) -> None:
        _, made = self.calls.pop()
        for storage in made:
            storage.saved = storage.alive
        self._began(self.calls[-1][0] if self.calls else "")

    def _began(self, name: str) -> None:
        number = torch._C._autograd._get_sequence_nr()
        while self.sequence and self.sequence[-1][0] >= number:
            self.sequence.pop()
        self.sequence.append((number, name))

    def _name(self, root) -> None:
        for name, module in root.named_modules():
            for wrapper in WRAPPERS:
                name = name.replace(wrapper, "")
            self.names[id(module)] = f"{name or 'model'} ({type(module).__name__})"

    def _label_roots(self) -> None:
        for reference in self.roots:
            root = reference()
            if root is not None:
                self.label(root.buffers(), "parameters")
                for parameter in root.parameters():
                    self.label([parameter], "parameters")
                    self.label([parameter.grad], "gradients")

    def _before_step(self, optimizer, args, kwargs) -> None:
        for group in optimizer.param_groups:
            self.label(group["params"], "parameters")
            self.label((p.grad for p in group["params"]), "gradients")
        self._outer, self.phase = self.phase, "optimizer step"

    def _after_step(self, optimizer, args, kwargs) -> None:
        self.label(tree_leaves([list(optimizer.state.values())]), "optimizer")
        self.phase = "backward" if self._outer == "backward" else "forward"
        if self._stepped == self.backwards:
            return  # one of several optimizers, or of many steps within one backward pass
        self._stepped = self.backwards
        self.steps += 1
        self.mark("step")

    def kind(self, storage: Storage) -> str:
        """What a storage is for, as far as the evidence goes: one of KINDS."""
        return storage.kind or ("activations" if storage.saved else "temporaries")
