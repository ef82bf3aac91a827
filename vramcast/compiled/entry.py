"""In the place of `torch.compile`: what is compiled, and what is left as it is."""

import functools
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FunctionType

import torch

from vramcast import compat
from vramcast.compiled import code, lowering, regions, tracing
from vramcast.device import compiler
from vramcast.device.mode import Gpu
from vramcast.loops.watched import Watched

HERE = Path(__file__).parents[1]
# Wraps collectives from PyTorch 2.14 on. Dynamo follows it and fails at a view changed in place.
DEPRECATED = "typing_extensions"
FOLLOWED = {"plain_marks.py"}  # by Dynamo; all else that stands in for something is left out


class Compiler:
    """PyTorch's compiler, on a GPU without data. Nothing is imported or changed before its use."""

    def __init__(self, gpu: Gpu, watched: Watched) -> None:
        self.gpu, self.watched = gpu, watched
        self._compile = torch.compile

    def install(self) -> None:
        """Let the script find it."""
        torch.compile = self.compile

    def compile(self, model=None, **options):
        """`torch.compile`. Raises ImportError if this PyTorch cannot compile here."""
        if model is None:  # a decorator with options
            return functools.partial(self.compile, **options)
        if compiler.left_alone(model) or _by_a_library():
            return compiler.compile_nothing(self.watched.notes, model, **options)
        if not self.watched.compiled:
            self.watched.compiled = True
            self._start()
        compiled = self._compile(model, **options)
        owner = getattr(model, "__self__", None)
        if isinstance(owner, torch.nn.Module) and not isinstance(model, torch.nn.Module):
            return self._named(owner, compiled)
        return compiled

    def _start(self) -> None:
        skip = compat.private("torch._dynamo:trace_rules.add")
        for path in HERE.rglob("*.py"):
            if path.name not in FOLLOWED and path.stem[:2] != "__":
                skip(".".join(("vramcast", *path.relative_to(HERE).with_suffix("").parts)))
        skip(DEPRECATED)
        _show_originals()
        lowering.install(self.gpu, self.watched)
        tracing.install(self.gpu, self.gpu.places)
        code.install(self.gpu.tracker, self.gpu.cost)
        regions.install(self.gpu.tracker, _methods())

    def _named(self, module: torch.nn.Module, compiled: Callable) -> Callable:
        """What `Module.compile` made: a call of the module, as far as the tracker knows."""
        tracker = self.gpu.tracker

        @functools.wraps(compiled)
        def run(*args, **kwargs):
            tracker.enter(module)
            try:
                return compiled(*args, **kwargs)
            finally:
                tracker.leave()

        run._torchdynamo_inline = compiled
        return run


def _by_a_library() -> bool:
    """Whether an installed package compiles something of its own while it is imported."""
    files = [frame.f_code.co_filename for frame, _ in traceback.walk_stack(sys._getframe(2))]
    importing = any(file.startswith("<frozen importlib") for file in files)
    return importing and "site-packages" in Path(files[0]).parts


def _show_originals() -> None:
    """Let Dynamo see the functions that stand-ins replace, for which it has rules."""
    import torch.nn.attention.flex_attention as flex

    functions = [
        one for module in (torch, torch.nn.functional, flex) for one in vars(module).values()
    ]
    for function in [*functions, *compiler.FUSED.values()]:
        original = function
        while _ours(original) and hasattr(original, "__wrapped__"):
            original = original.__wrapped__
        if original is not function:
            function._torchdynamo_inline = original


def _methods() -> dict[str, tuple[Callable, Callable | None]]:
    """The methods of tensors that are stand-ins, with what the class itself has in their place."""
    found = {name: one for name, one in vars(torch.Tensor).items() if _ours(one)}
    return {name: (one, _own(one)) for name, one in found.items()}


def _own(method: Callable) -> Callable | None:
    """The function in Python that a stand-in replaces; None if it is inherited, from C++."""
    while _ours(method):
        method = getattr(method, "__wrapped__", None)
    return method if isinstance(method, FunctionType) else None


def _ours(function: object) -> bool:
    """Whether a function is defined in this package."""
    is_function = isinstance(function, FunctionType)
    return is_function and Path(function.__code__.co_filename).is_relative_to(HERE)
