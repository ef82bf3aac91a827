"""Sets up all that a script finds in the place of a GPU, data, weights and other ranks."""

import argparse
import builtins
import collections
import functools
import os
import sys
import traceback
from pathlib import Path

import torch

from vramcast.device import as_of_2023
from vramcast.device import mode as gpu
from vramcast.libraries import bitsandbytes as bitsandbytes_shapes
from vramcast.libraries import datasets as datasets_shapes
from vramcast.libraries import example_data, loaders
from vramcast.libraries import ignite as ignite_epochs
from vramcast.libraries import timm as timm_shapes
from vramcast.libraries import torchmetrics as metrics
from vramcast.libraries import torchvision as torchvision_shapes
from vramcast.libraries import transformers as transformers_shapes
from vramcast.libraries import triton as triton_kernels
from vramcast.memory.tracker import Tracker
from vramcast.memory.watched import Watched
from vramcast.options import Options, starts_group
from vramcast.ranks import data_parallel
from vramcast.ranks import one_of_many as ranks_of_many

COMPILED = (
    "torch.compile: predicted as if uncompiled. torchao measured a compiled ViT-H/14 at 2 % more "
    "than is predicted so (results/others.json); other models, and CUDA graphs, may differ more"
)


class Unpredictable(Exception):
    """The script does something whose memory cannot be known from shapes."""


def prepare(
    tracker: Tracker, watched: Watched, script: Path, options: Options
) -> tuple[gpu.Gpu, loaders.Loaders]:
    """Set it up; return the mode that the script has to run in, and its loaders' record."""
    _start_as_usual(script, options.arguments)
    tracker.install()
    mode = gpu.install(tracker, options.gpu, options.gpus, watched.notes)
    if options.as_of == 2023:
        as_of_2023.install(mode)
    torchvision_shapes.install()
    example_data.install(options.example, options.classes, watched.notes)
    found = loaders.install(tracker, watched, mode.cost, options)
    source = script.read_bytes()
    transformers_shapes.install(dict(options.configs), watched.notes)
    datasets_shapes.install(options.example, options.classes, options.columns, watched.notes)
    timm_shapes.install()
    triton_kernels.install()
    ignite_epochs.install()
    bitsandbytes_shapes.install(watched.notes)
    ranks_of_many.install(tracker, options.gpus)
    data_parallel.install(tracker)
    if starts_group(source):
        os.environ |= ranks_of_many.torchruns(options.gpus)
    allocator = watched.allocator
    for name in ("max_allocated", "max_reserved", "allocated", "reserved"):
        key = f"max_memory_{name[4:]}" if name.startswith("max_") else f"memory_{name}"
        setattr(torch.cuda, key, lambda *args, name=name, **kwargs: getattr(allocator, name))
    torch.cuda.memory_stats = functools.partial(_statistics, allocator)
    torch.cuda.memory_summary = lambda *args, **options: ""
    metrics.install()
    torch.multiprocessing.spawn = _first_of_spawned
    torch.compile = functools.partial(_compile, watched.notes)
    builtins.input = _cannot("it asks for input, which nobody gives in a prediction")
    from torch.utils import cpp_extension  # which complains where it finds no GPU

    for name in ("load", "load_inline"):
        message = "a CUDA extension of its own: what it allocates is not known"
        setattr(cpp_extension, name, _cannot(message))
    return mode, found


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


def _compile(notes: list[str], function=None, **options):
    """In the place of `torch.compile`: only the steps of torchao's optimizers count as compiled.

    They change their arguments in place, return nothing, and are assumed to need no memory of their
    own. Everything else runs uncompiled, operator by operator.
    """
    if function is None:  # a decorator with options
        return functools.partial(_compile, notes, **options)
    if getattr(function, "__module__", None) == "torchao.optim.adam":
        notes.append(
            "what the compiled kernels of torchao's optimizer need meanwhile is not counted"
        )
        return lambda *args: None
    files = [frame.f_code.co_filename for frame, _ in traceback.walk_stack(sys._getframe())]
    if not any(file.startswith("<frozen importlib") for file in files):  # by what is imported
        notes.append(COMPILED)
    return function


def _statistics(allocator, *args) -> dict[str, int]:
    """In the place of `torch.cuda.memory_stats`: the known figures, and 0 for all others."""
    known = {
        f"{kind}_bytes.all.{when}": getattr(allocator, f"max_{kind}" if when == "peak" else kind)
        for kind in ("allocated", "reserved")
        for when in ("current", "peak")
    }
    return collections.defaultdict(int, known)


def _first_of_spawned(function, args=(), nprocs=1, join=True, daemon=False, start_method="spawn"):
    """In the place of `torch.multiprocessing.spawn`: do the first process's work in this one."""
    function(0, *args)


def _cannot(message: str):
    def stop(*args, **kwargs):
        raise Unpredictable(message)

    return stop
