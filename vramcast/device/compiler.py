"""In the place of `torch.compile`: everything runs uncompiled, operator by operator."""

import functools
import sys
import traceback
from collections.abc import Callable
from types import CodeType, FunctionType

import torch

from vramcast import compat

# openai/parameter-golf's records (operators of its own, fused); rasbt/LLMs-from-scratch,
# ch05/10_llm-training-speed
COMPILED = (
    "torch.compile: predicted as if uncompiled. Compiled trainings were measured from half of that "
    "to 5 % above it; the memory of CUDA graphs is not counted"
)
# Modules whose compiled functions change their arguments in place, return nothing, and are assumed
# to need no memory of their own, so that they are not run; with a note on that.
IN_PLACE: dict[str, str] = {}
# PyTorch's modules that compile something of their own where the script does not
OWN = {"torch.nn.attention.flex_attention"}
# functions that are another one once they are compiled, and no other than that is to be noted
FUSED: dict[Callable, Callable] = {}
_compiled: set[tuple[CodeType, int]] = set()  # what runs, and the identity of its `self`, or 0
_methods: set[CodeType] = set()  # of these, those that have a `self`


def runs() -> bool:
    """Whether something that the script compiles runs now, or its backward pass."""
    if not _compiled:
        return False
    for frame, _ in traceback.walk_stack(sys._getframe()):
        code = frame.f_code
        if (code, 0) in _compiled:
            return True
        if code in _methods and (code, id(frame.f_locals.get(code.co_varnames[0]))) in _compiled:
            return True
    return compat.current_node() is not None  # a checkpoint runs a part of it again


def marked(function: Callable) -> Callable:
    """A function that does the same and counts as compiled."""

    @functools.wraps(function)
    def run(*args, **kwargs):
        _compiled.add((run.__code__, 0))
        return function(*args, **kwargs)

    return run


def _mark(function: object) -> None:
    """Remember that a function, method or module is compiled."""
    if isinstance(function, torch.nn.Module):
        function = function.forward
    while isinstance(function, functools.partial):
        function = function.func
    this = getattr(function, "__self__", None)
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    if code is not None:
        _compiled.add((code, 0 if this is None else id(this)))
        if this is not None:
            _methods.add(code)


def left_alone(function: object) -> bool:
    """Whether something has a rule of its own for when it is compiled."""
    module = getattr(function, "__module__", None)
    fused = isinstance(function, FunctionType) and function in FUSED
    return module in IN_PLACE or module in OWN or fused


def compile_nothing(notes: list[str], function=None, **options):
    """`torch.compile`; `notes` is told what is not known because of it."""
    if function is None:  # a decorator with options
        return functools.partial(compile_nothing, notes, **options)
    if note := IN_PLACE.get(getattr(function, "__module__", None)):
        notes.append(note)
        return lambda *args: None
    if isinstance(function, FunctionType) and function in FUSED:
        return FUSED[function]
    if getattr(function, "__module__", None) in OWN:
        return function
    _mark(function)
    files = [frame.f_code.co_filename for frame, _ in traceback.walk_stack(sys._getframe())]
    if not any(file.startswith("<frozen importlib") for file in files):  # by what is imported
        notes.append(COMPILED)
    return function
