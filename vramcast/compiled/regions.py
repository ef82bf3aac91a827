"""What does not hold while compiled code runs: the hooks on modules, and the marks in a script.

On a GPU there are neither. Dynamo would follow them, and break the graph at each.
"""

import builtins
from collections.abc import Callable

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


def install(tracker: Tracker) -> None:
    """Take both away while Dynamo is asked about each function that is called."""
    marking = {name: getattr(builtins, name) for name in PLAIN}

    def switching(switch: Callable) -> Callable:
        def switched(callback):
            inside = callback is not None and callback is not False
            for name, mark in (PLAIN if inside else marking).items():
                setattr(builtins, name, mark)
            tracker.hook_modules(not inside)
            return switch(callback)

        return switched

    compat.wrap("torch._dynamo.eval_frame:_maybe_set_eval_frame", switching)
