"""The line of the script that runs now, for notes."""

import sys
import traceback


def line() -> int | None:
    """The innermost line of the script on the stack; None if it is not there."""
    script = getattr(sys.modules["__main__"], "__file__", None)
    frames = traceback.walk_stack(sys._getframe())
    return next((line for frame, line in frames if frame.f_code.co_filename == script), None)


def here() -> str:
    """The same, as a note begins: "line 12: "; "" if it is not there."""
    found = line()
    return "" if found is None else f"line {found}: "
