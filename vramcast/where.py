"""The line of the script that runs now, for notes."""

import sys
import traceback


def here() -> str:
    """The innermost line of the script on the stack, as "line 12: "; "" if it is not there."""
    script = getattr(sys.modules["__main__"], "__file__", None)
    for frame, line in traceback.walk_stack(sys._getframe()):
        if frame.f_code.co_filename == script:
            return f"line {line}: "
    return ""
