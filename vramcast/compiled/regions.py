"""What does not hold while compiled code runs: hooks on modules, marks in a script, own methods.

On a GPU there are none of them. Dynamo would follow them, and break the graph at each.
"""

import builtins
import sys
from collections.abc import Callable

import torch

from vramcast import compat
from vramcast.compiled import plain_marks
from vramcast.loops import marks
from vramcast.memory.tracker import Tracker

PLAIN = {
    marks.LOOP: plain_marks.loop,
    marks.ENDLESS: plain_marks.endless,
    marks.NUMBER: plain_marks.number,
    marks.WHOLE: plain_marks.whole,
    marks.DIVISOR: plain_marks.divisor,
    marks.MORE: plain_marks.more,
    marks.LESS: plain_marks.less,
}


def install(tracker: Tracker, methods: dict[str, tuple[Callable, Callable | None]]) -> None:
    """Take them away while Dynamo is asked about each function that is called.

    `methods`: those of `torch.Tensor` that stand in for its own, and these, None where it has none.
    """
    plain = PLAIN | {
        name: getattr(builtins, name).__wrapped__
        for name in ("max", "min")
        if hasattr(getattr(builtins, name), "__wrapped__")
    }
    marking = {name: getattr(builtins, name) for name in plain}
    held = True

    def hold(on: bool) -> None:
        nonlocal held
        held = on
        for name, mark in (marking if on else plain).items():
            setattr(builtins, name, mark)
        for name, (method, own) in methods.items():
            if on or own is not None:
                setattr(torch.Tensor, name, method if on else own)
            else:
                delattr(torch.Tensor, name)
        tracker.hook_modules(on)

    def switching(switch: Callable) -> Callable:
        def switched(callback):
            inside = callback is not None and callback is not False
            # "_fn": around a function that Dynamo leaves out, also while it traces
            if held == inside and sys._getframe(1).f_code.co_name != "_fn":
                hold(not inside)
            return switch(callback)

        return switched

    compat.wrap("torch._dynamo.eval_frame:_maybe_set_eval_frame", switching)
