"""Run one unmodified script on a GPU without data, in this process, and say what it would need.

Meant for `predict_memory.py`, in a process of its own, because the stand-ins replace parts of
PyTorch for good.
"""

import functools
import runpy
import signal
import sys
import time
import traceback
from pathlib import Path

import lightning  # noqa: F401  imported before the sandbox: imports may start programs
import torch
import torchmetrics
import torchvision  # noqa: F401
from torch._subclasses import fake_tensor

from stand_ins import adam_2023, gpu, gpus, language_shapes, peaks, ranks_of_many, sandbox, shapes
from stand_ins.allocator import CachingAllocator
from stand_ins.options import Options
from stand_ins.tracker import Tracker

LIMIT = 180  # seconds that a script is given


class Unpredictable(Exception):
    """The script does something whose memory cannot be known from shapes."""


class TooLong(BaseException):
    """The script was still running when its time was over."""


def predict(script: Path, scratch: Path, options: Options) -> dict:
    """What the script would need, or {"error": why that cannot be said}.

    Changes environment, arguments and parts of PyTorch of this process.
    """
    start = time.perf_counter()
    guard = sandbox.Sandbox(script, scratch)  # before there are threads, which it would not hold
    tracker, watched = _prepare(options, script.read_bytes())
    error = None
    sys.argv, sys.path[0] = [str(script)], str(script.parent)
    guard.watch()
    try:
        signal.signal(signal.SIGALRM, _ring)
        signal.alarm(LIMIT)
        with watched.mode:
            runpy.run_path(str(script), run_name="__main__")
    except shapes.Steady:
        pass
    except TooLong:
        if watched.rounds_without_peak() < 2:
            error = f"its peak was still growing, or not yet reached, after {LIMIT} s"
        watched.notes.append(f"stopped after {LIMIT} s: what would come later is not counted")
    except SystemExit as leaving:
        if leaving.code not in (None, 0):
            error = "it stopped by itself: " + str(leaving.code).partition("\n")[0]
    except BaseException as failure:
        error = guard.denied(failure) or _explain(script, failure)
    finally:
        signal.alarm(0)
    if guard.refusals:  # whatever became of it
        error = guard.refusals[0]
    if error is None and tracker.steps == 0:
        error = "it never trained: no optimizer took a step"
    if error is not None:
        return {"error": error}
    return _result(tracker, watched, options) | {"seconds": time.perf_counter() - start}


class Watched:
    """The allocator as the script runs, for the script's own questions and for when to stop."""

    def __init__(self) -> None:
        self.allocator = CachingAllocator()
        self.mode: gpu.Gpu | None = None
        self.created = 0
        self.notes: list[str] = []
        self.loaders = shapes.Loaders()
        self._last, self._rounds = None, 0

    def sees(self, what: str, storage, other) -> None:
        """Told each event of the tracker's as it happens."""
        peaks.feed(self.allocator, what, storage, other)
        if what == "mark" and other == "created":
            self.created = self.allocator.max_reserved
        elif what == "mark" and other == "step":
            self._rounds = self._rounds + 1 if self.peak() == self._last else 0
            self._last = self.peak()
            if self._rounds >= shapes.STEPS and not self.loaders.running:
                raise shapes.Steady

    def peak(self) -> tuple[int, int]:
        """Bytes allocated and reserved at most so far."""
        return self.allocator.max_allocated, self.allocator.max_reserved

    def batch_size(self) -> int | None:
        """The first loader's own, if the script has a loader."""
        return self.loaders.batch_sizes[0] if self.loaders.batch_sizes else None

    def rounds_without_peak(self) -> int:
        """Optimizer steps since the peak last rose."""
        return self._rounds


def _prepare(options: Options, source: bytes) -> tuple[Tracker, Watched]:
    watched = Watched()
    tracker = Tracker(watched.sees)
    tracker.install()
    if options.adam_2023:
        adam_2023.install()
    watched.mode = gpu.install(tracker, options.gpu, options.gpus)
    watched.loaders = shapes.install(watched.mode, watched.peak, options.batch_size)
    if b"transformers" in source or b"datasets" in source:  # importing them takes seconds
        language_shapes.install()
    ranks_of_many.install(tracker, options.gpus)
    allocator = watched.allocator
    for name in ("max_allocated", "max_reserved", "allocated", "reserved"):
        key = f"max_memory_{name[4:]}" if name.startswith("max_") else f"memory_{name}"
        setattr(torch.cuda, key, lambda *args, name=name, **kwargs: getattr(allocator, name))
    torchmetrics.Metric.validate_args = False
    torch.save = lambda *args, **kwargs: watched.notes.append("torch.save was left out")
    torch.compile = functools.partial(_compile, watched.notes)
    from torch.utils import cpp_extension  # which complains where it finds no GPU

    for name in ("load", "load_inline"):
        message = "a CUDA extension of its own: what it allocates is not known"
        setattr(cpp_extension, name, _cannot(message))
    return tracker, watched


def _compile(notes: list[str], function=None, **options):
    """In the place of `torch.compile`, which is known for the steps of torchao's optimizers alone.

    They change their arguments in place and return nothing, by kernels that are taken to need no
    memory of their own.
    """
    if getattr(function, "__module__", None) != "torchao.optim.adam":
        raise Unpredictable("torch.compile: what its compiler fuses is not known without it")
    notes.append("what the compiled kernels of torchao's optimizer need meanwhile is not counted")
    return lambda *args: None


def _cannot(message: str):
    def stop(*args, **kwargs):
        raise Unpredictable(message)

    return stop


def _ring(*args) -> None:
    raise TooLong


def _explain(script: Path, failure: BaseException) -> str:
    """A failure in one line that says where in the script it happened."""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(failure.__traceback__)
        if frame.filename == str(script)
    ]
    where = f"line {lines[-1]}: " if lines else ""
    if isinstance(failure, SyntaxError):
        return f"line {failure.lineno}: {failure.msg}"
    if isinstance(failure, Unpredictable):
        return f"{where}{failure}"
    if isinstance(
        failure,
        (fake_tensor.DynamicOutputShapeException, fake_tensor.DataDependentOutputException),
    ):
        return f"{where}a shape depends on the data ({failure.func}), which is not known here"
        traceback.print_exception(failure)
    text = str(failure).strip().partition("\n")[0]
    if isinstance(failure, fake_tensor.UnsupportedOperatorException) or "data pointer" in text:
        return f"{where}an operator of its own has no rule for shapes ({text})"
    return f"{where}{type(failure).__name__}: {text}"


def _result(tracker: Tracker, watched: Watched, options: Options) -> dict:
    allocated, alive, last = peaks.peak(tracker.events, "cuda")
    host, _, _ = peaks.peak(tracker.events, "cpu")
    sums = peaks.breakdown(tracker, alive)
    result = {
        "reserved_gb": watched.allocator.max_reserved / 1e9,
        "allocated_gb": allocated / 1e9,
        "host_gb": host / 1e9,
        "host_training_gb": peaks.training_peak(tracker.events, "cpu") / 1e9,
        "breakdown_gb": {kind: size / 1e9 for kind, size in sums.items()},
        "peak_phase": last.phase if last else "",
        "peak_module": last.module if last else "",
        "created_gb": watched.created / 1e9,
        "batch_size": watched.batch_size(),
        "adam_lists": any(
            what == "allocate" and storage.op == "aten._foreach_sqrt.default"
            for what, storage, _ in tracker.events
            if storage is not None and storage.device == "cuda"
        ),
        "notes": watched.notes,
    }
    if any(what == "use" for what, _, _ in tracker.events):  # several streams share memory
        late = peaks.replay(tracker.events, prompt=False)
        result["reserved_late_gb"] = late.max_reserved / 1e9
    if options.capacity:
        result |= _fit(tracker.events, options.gpu)
    if options.timeline:
        result["timeline"] = peaks.last_step(tracker)
    return result


def _fit(events: list[tuple], model: gpus.Model) -> dict:
    """Whether a GPU's memory suffices. PyTorch gives back unused memory before it gives up."""
    within = peaks.replay(events, capacity=model.memory - model.context)
    return {
        "fits": within is not None,
        "reserved_within_gb": within.max_reserved / 1e9 if within else None,
    }
