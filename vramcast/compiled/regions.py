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


def install(tracker: Tracker, methods: dict[str, Callable]) -> None:
    """Take them away while Dynamo is asked about each function that is called.

    `methods`: those of `torch.Tensor` that stand in for its own.
    """
    held = True
    marking = {name: getattr(builtins, name) for name in PLAIN}

    def switching(switch: Callable) -> Callable:
        def switched(callback):
            nonlocal held
            if sys._getframe(1).f_code.co_name == "_fn":  # a function that Dynamo leaves out
                return switch(callback)
            inside = callback is not None and callback is not False
            if held == inside:
                held = not inside
                for name, method in methods.items():
                    setattr(torch.Tensor, name, method) if held else delattr(torch.Tensor, name)
            for name, mark in (PLAIN if inside else marking).items():
                setattr(builtins, name, mark)
            tracker.hook_modules(not inside)
            return switch(callback)

        return switched

    compat.wrap("torch._dynamo.eval_frame:_maybe_set_eval_frame", switching)
