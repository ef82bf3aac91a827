"""In the place of `torch.compile`: everything runs uncompiled, operator by operator."""

import functools
import sys
import traceback

# torchtune's README (recompute by fusion); rasbt/LLMs-from-scratch, ch05/10_llm-training-speed
COMPILED = (
    "torch.compile: predicted as if uncompiled. Compiled trainings were measured from 15 % below "
    "to 5 % above that; the memory of CUDA graphs is not counted"
)
# Modules whose compiled functions change their arguments in place, return nothing, and are assumed
# to need no memory of their own, so that they are not run; with a note on that.
IN_PLACE: dict[str, str] = {}


def compile_nothing(notes: list[str], function=None, **options):
    """`torch.compile`; `notes` is told what is not known because of it."""
    if function is None:  # a decorator with options
        return functools.partial(compile_nothing, notes, **options)
    if note := IN_PLACE.get(getattr(function, "__module__", None)):
        notes.append(note)
        return lambda *args: None
    files = [frame.f_code.co_filename for frame, _ in traceback.walk_stack(sys._getframe())]
    if not any(file.startswith("<frozen importlib") for file in files):  # by what is imported
        notes.append(COMPILED)
    return function
