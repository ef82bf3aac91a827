"""torchao's optimizers, whose steps are compiled also where the script compiles nothing.

A step changes its arguments in place, returns nothing, and is assumed to need no memory of its own.
"""

from vramcast.device import compiler
from vramcast.libraries.context import Context


def install(context: Context) -> None:
    """Let these steps do nothing."""
    compiler.IN_PLACE["torchao.optim.adam"] = (
        "what the compiled kernels of torchao's optimizer need meanwhile is not counted"
    )
