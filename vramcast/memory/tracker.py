"""For each storage: when in the training it is allocated, by which module, and what it is for.

The tracker knows nothing about segments (allocator.py) and nothing about tensors without data
(gpu.py), so it also works on real tensors on the CPU.
"""

import bisect
import weakref
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.modules import module as modules
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.utils._pytree import tree_leaves
from torch.utils.hooks import RemovableHandle

from vramcast import compat
from vramcast.memory.origins import Origins
from vramcast.memory.storages import Storage, Storages

WRAPPERS = (
    "_forward_module.",
    "_orig_mod.",
    "_fsdp_wrapped_module.",
    "_checkpoint_wrapped_module.",
)


class Tracker(Storages):
    """Keeps the log of storages, and notes the phase, module and kind of each."""

    def __init__(self, sees: Callable[[str, Storage, object], None] = lambda *event: None) -> None:
        super().__init__(sees)
        self.groups: set[str] = set()  # process groups that communicated
        self.names: dict[int, str] = {}
        self.calls: list[tuple[str, list[Storage]]] = []  # modules' forward calls that run now
        self.roots: list[weakref.ref] = []
        self.sequence: list[tuple[int, str]] = []  # autograd's numbers at which a module began
        self.loose: list[Storage] = []  # made by the forward pass outside of modules
        self.steps = self.backwards = 0  # so far: backward passes, and those with a step after
        self.passes = self.recorded = 0  # through a model, and of these for a backward pass
        self.origins = Origins("")  # of what may stay
        self._stepped = 0
        self._hooks: list[RemovableHandle] = []  # on all modules, while they are followed
        self._sources: list[Storage | None] | None = None  # of the operator that is booked

    def book(self, result: object, op: object, inputs: object = ()) -> None:
        """As `Storages.book`; its inputs are looked up once for all of its results."""
        self._sources = None
        super().book(result, op, inputs)
        self._sources = None

    def made(self, storage: Storage, tensor: Tensor, op: str, inputs: object) -> None:
        """Recognize inputs: what is moved to the GPU outside of the model, and made from that."""
        if self.origins.on:
            self.origins.note(storage, tensor)
        if storage.device == "cuda" and not self.calls and self.phase in ("setup", "forward"):
            if self._sources is None:
                leaves = [leaf for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor)]
                self._sources = list(map(self.find, leaves))
            sources = self._sources
            if "_to_copy" in op or "copy_" in op:
                if any(_new_here(source, storage.gpu) for source in sources):
                    storage.kind = "inputs"
            elif not tensor.requires_grad and any(s and s.kind == "inputs" for s in sources):
                storage.kind = "inputs"

    def allocated(self, storage: Storage) -> None:
        """Remember storages that might outlive the module that made them."""
        forward = self.phase != "optimizer step" and torch.is_grad_enabled()
        if storage.device == "cuda" and forward:
            if self.calls:
                self.calls[-1][1].append(storage)
            elif self.phase == "forward":
                self.loose.append(storage)

    def module(self) -> str:
        """The name of the module whose forward or backward pass runs."""
        if self.calls:
            return self.calls[-1][0]
        if self.phase == "backward":
            node = compat.current_node()
            if node is not None:
                place = bisect.bisect_right(self.sequence, (node._sequence_nr(), "\uffff"))
                return self.sequence[place - 1][1] if place else ""
        return ""

    def install(self) -> None:
        """Follow modules, backward passes and optimizers from now on."""
        self.hook_modules(True)
        register_optimizer_step_pre_hook(self._before_step)
        register_optimizer_step_post_hook(self._after_step)
        compat.wrap_backward(self._followed)

    def hook_modules(self, on: bool) -> None:
        """Follow modules from now on, or do not."""
        if on and not self._hooks:
            self._hooks = [
                modules.register_module_forward_pre_hook(self.enter),
                modules.register_module_forward_hook(self.leave, always_call=True),
            ]
        elif not on:
            for hook in self._hooks:
                hook.remove()
            self._hooks = []

    def _followed(self, run: Callable) -> Callable:
        """A function that runs a backward pass, as a phase of its own."""

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

        return run_backward

    def enter(self, module, args=()) -> None:
        """A module is called."""
        if not self.calls:
            if next(module.parameters(), None) is not None:  # not an image's transformation, say
                self.passes += 1
                self.recorded += torch.is_grad_enabled()
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

    def leave(self, module=None, args=(), result=None) -> None:
        """The call ends: what it made and is still there is kept for the backward pass."""
        _, made = self.calls.pop()
        for storage in made:
            storage.saved = storage.alive
        self._began(self.calls[-1][0] if self.calls else "")

    def _began(self, name: str) -> None:
        number = compat.sequence_number()
        while self.sequence and self.sequence[-1][0] >= number:
            self.sequence.pop()
        self.sequence.append((number, name))

    def _name(self, root) -> None:
        for name, module in root.named_modules():
            self._label_kept(module)
            for wrapper in WRAPPERS:
                name = name.replace(wrapper, "")
            kind = type(getattr(module, "_orig_mod", module)).__name__
            self.names[id(module)] = f"{name or 'model'} ({kind})"

    def _label_kept(self, module) -> None:
        """Count all that a module has from the start as parameters, however it keeps them.

        That includes quantized weights in plain attributes, or in an object of a library.
        """
        for value in tree_leaves([v for k, v in vars(module).items() if k[0] != "_"]):
            for tensor in (value, *getattr(value, "__dict__", {}).values()):
                storage = self.find(tensor) if isinstance(tensor, Tensor) else None
                if storage is not None and storage.kind in (None, "inputs"):  # moved there before
                    storage.kind = "parameters"

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
        """What a storage is for, one of KINDS, judged by what was seen of it."""
        return storage.kind or ("activations" if storage.saved else "temporaries")


def _new_here(source: Storage | None, gpu: int) -> bool:
    """Whether a copy of this on a GPU is an input: it was on the host, or one on another GPU."""
    if source is None or source.device == "cpu":
        return True
    return source.kind == "inputs" and source.gpu != gpu
