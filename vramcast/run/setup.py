"""Sets up all that a script finds in the place of a GPU, libraries, data, weights and other ranks.

Nothing of it can be undone, here and in all modules that are called from here: parts of PyTorch and
of other libraries are replaced for good. So each prediction has a process of its own.
"""

import argparse
import builtins
import functools
import os
import sys
from pathlib import Path
from types import ModuleType

import torch

from vramcast import libraries
from vramcast.compiled import entry
from vramcast.device import as_of_2023, compiler, mode, unknown
from vramcast.libraries.context import Context
from vramcast.loops import marks
from vramcast.loops.running import Loops
from vramcast.loops.watched import Watched
from vramcast.memory.origins import Origins
from vramcast.memory.tracker import Tracker
from vramcast.options import Options
from vramcast.ranks import data_parallel, one_of_many, replicas
from vramcast.run.source import starts_group
from vramcast.techniques import applied
from vramcast.when_imported import when_imported


class Unpredictable(Exception):
    """The script does something whose memory cannot be known from shapes."""


def prepare(
    tracker: Tracker, watched: Watched, script: Path, options: Options
) -> tuple[mode.Gpu, Context, applied.Applied]:
    """Set it up; return the mode that the script has to run in, what the libraries write to, and
    what applies techniques to it.

    The order matters in two places: the rules of 2023 replace those of the GPU, and the libraries
    (in any order) build on both.
    """
    _start_as_usual(script, options.arguments)
    applied.environment(options.techniques)
    tracker.install()
    found = 1 if "fsdp2" in options.techniques else options.gpus
    gpu = mode.install(tracker, options.gpu, found, watched.notes, watched.allocators)
    if options.as_of == 2023:
        as_of_2023.install(gpu)
    one_of_many.install(tracker, options.gpus)
    data_parallel.install(tracker, watched.notes)
    replicas.install(watched.notes)
    if options.gpus > 1:
        when_imported("torch.distributed.pipelining.stage", _no_pipeline)
    if starts_group(script.read_bytes()):
        os.environ |= one_of_many.torchruns(options.gpus)
    if options.eager or options.as_of:
        torch.compile = functools.partial(compiler.compile_nothing, watched.notes)
    else:
        entry.Compiler(gpu, watched).install()
    builtins.input = _cannot("it asks for input, which nobody gives in a prediction")
    from torch.utils import cpp_extension  # which complains where it finds no GPU

    for name in ("load", "load_inline"):
        message = "a CUDA extension of its own: what it allocates is not known"
        setattr(cpp_extension, name, _cannot(message))
    tracker.origins = watched.origins = Origins(str(script))
    tracker.origins.on = tracker.origins.keep = options.why
    watched.copy = tracker.copy
    Loops(tracker, watched, script).install()
    setattr(builtins, marks.WHOLE, unknown.whole)
    context = Context(script, options, tracker, watched, gpu.cost)
    libraries.install(context)
    techniques = applied.Applied(options.techniques, watched.notes, options.gpus)
    if options.techniques:
        techniques.install()
    return gpu, context, techniques


def _start_as_usual(script: Path, arguments: tuple[str, ...]) -> None:
    """Set what `python SCRIPT ARGUMENTS` would find: arguments, import path, working directory.

    The directory stays if the script lies below it. Else it becomes the script's own folder, where
    its configuration is, and arguments that name files get full paths.
    """
    if not script.is_relative_to(Path.cwd()):
        here, arguments = Path.cwd(), list(arguments)
        arguments = [str(here / word) if (here / word).exists() else word for word in arguments]
        os.chdir(script.parent)
    sys.argv, sys.path[0] = [str(script), *arguments], str(script.parent)
    argparse.ArgumentParser.error = lambda parser, message: sys.exit(message)  # which is shown


def _no_pipeline(module: ModuleType) -> None:
    message = "a pipeline: what its stages on other GPUs send and need is not known here"
    module.PipelineStage.__init__ = _cannot(message)


def _cannot(message: str):
    def stop(*args, **kwargs):
        raise Unpredictable(message)

    return stop
