"""vramcast: the peak GPU memory of a PyTorch training script, predicted without a GPU.

    vramcast train.py --gpu 24            or, in a clone:  python -m vramcast train.py --gpu 24

A room for each question; a room calls only those below it:

command      the command line: what is asked, and the answer in words
run          one script, run in a process of its own
libraries    what libraries do differently here: one module for each
compiled     what torch.compile makes of a script
device       the GPU without data: tensors that have a shape and no numbers
ranks        one rank of many, in one process
sandbox      what a script may not do, and where its files go
step         a look into one training step
cost         the work of a training step
loops        which iterations of its loops are run, and what the others add
operators    what is known of single operators
memory       when storages are allocated and released, and PyTorch's caching allocator
processes    processes that end with their command

and at the bottom: compat (versions of PyTorch, and its private names), options and gpus (what is
asked, about which GPU), kinds (what memory is for), evidence (how far predictions may be off),
prediction (the answer), notebook (its pictures there), markdown (a script's text in it), functions
(as scripts), when_imported (changes a library once it is imported), where (the line of the script
that runs). api is `predict`.
"""

import platform
import sys

if sys.version_info < (3, 11):  # noqa: UP036  all commands come by here first
    sys.stderr.write("Python 3.11 or newer is needed, and this is " + platform.python_version())
    sys.stderr.write("\n")
    sys.exit(2)

from vramcast.api import NotPredicted, predict
from vramcast.prediction import Prediction

__version__ = "0.1.0"
__all__ = ["NotPredicted", "Prediction", "predict"]
