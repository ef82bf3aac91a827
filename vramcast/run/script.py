"""Run one unmodified script on a GPU without data, in this process, and say what it would need.

Meant for process.py, which gives it a process of its own, because the stand-ins replace parts of
PyTorch for good.
"""

import ast
import contextlib
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import CodeType, ModuleType

import torch

from vramcast import compat
from vramcast.device.unknown import Unsized, follow
from vramcast.libraries.example_data import NotHere
from vramcast.loops import marks
from vramcast.loops.growth import Growing
from vramcast.loops.unknown_ends import UnknownEnds
from vramcast.loops.watched import Steady, Watched
from vramcast.memory.tracker import Tracker
from vramcast.options import Options
from vramcast.processes import messages
from vramcast.processes.supervisor import write_json
from vramcast.run import hints, result, setup, source
from vramcast.sandbox import audit, checkpoints, programs, written_files
from vramcast.step import timeline
from vramcast.step.lines import Lines
from vramcast.techniques.weights import NotApplied

EXPLAINED = re.compile(r"^  Explanation: (.*)$", re.MULTILINE)
READS = re.compile(rb"\.item\(|\.tolist\(|\bint\(")  # a script that may read numbers


class TooLong(BaseException):
    """The script was still running when the user's time limit was over."""


def predict(
    script: Path,
    scratch: Path,
    options: Options,
    send: Callable[[dict], None] = lambda report: None,
) -> dict:
    """What the script would need, or {"error": why that cannot be said}.

    `send` is called with how far it is. This changes the process: its environment variables, its
    arguments, and parts of PyTorch.
    """
    start = time.perf_counter()
    guard = audit.Sandbox(script, scratch)  # before there are threads, which it would not hold
    watched = Watched(send)
    lines = Lines(str(script), watched.sees)
    tracker = Tracker(lines.sees if options.timeline or options.snapshot else watched.sees)
    mode, context, techniques = setup.prepare(tracker, watched, script, options)
    if compat.NOTE:
        watched.notes.append(compat.NOTE)
    error = None
    _redirect(scratch)
    guard.settled = watched.at_rest
    guard.watch()

    def late() -> str:
        so_far = (
            f"{watched.steps} optimizer steps, {watched.peak()[1] / 1e9:.2f} GB reserved so far"
        )
        return f"after {options.time_limit:g} s (--time-limit): {so_far}"

    def ring(*args) -> None:
        # in case that raising ends the process: PyTorch's C++ aborts where it expects no exception
        write_json({"error": f"it was not done {late()}"}, scratch / "result.json")
        raise TooLong

    try:
        code = _code(script, options)
        mode.loops = UnknownEnds(source.loops(script.read_bytes()))
        if READS.search(script.read_bytes()):
            follow()
        signal.signal(signal.SIGALRM, ring)
        # again and again: Python swallows what is raised while an object is released
        signal.setitimer(signal.ITIMER_REAL, options.time_limit or 0, 1)
        send(watched.report())  # from now on, the process outside counts its time, too
        with mode:
            _run(code, str(script))
    except Steady:
        pass
    except Growing as failure:
        error = str(failure)
    except TooLong:
        if watched.at_rest():
            watched.notes.append(f"ended {late()}")
        else:
            error = f"it was not done {late()}"
    except SystemExit as leaving:
        if leaving.code not in (None, 0):
            told = messages.brief(messages.text_of(leaving.code))
            name, _, rest = told.partition(": ")
            told = rest if rest and str(script).endswith(name) else told
            error = f"it stopped by itself: {told}"
    except BaseException as failure:
        error = guard.denied(failure) or _explain(script, failure)
        error = error.replace(f"{os.path.realpath(scratch)}/written", "")
        if watched.at_rest():  # what comes later does not make less of what is known
            stopped = guard.later[-1] if isinstance(failure, audit.Refused) else error
            watched.notes.append(f"the peak was at rest when it ended: {stopped}")
            error = None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    watched.notes += mode.loops.notes() if mode.loops else []
    if guard.refusals:  # whatever became of it
        error = guard.refusals[0]
    if error is None and not techniques.applied():
        error = "there is no model, or no optimizer, to apply the technique to"
    if error is None and tracker.steps == 0:
        if tracker.backwards:
            watched.notes.append(
                "no optimizer of torch.optim took a step; what steps by hand allocate is counted"
            )
        elif watched.passed:
            watched.notes.append("no optimizer took a step: this is the memory of inference")
        elif watched.peak()[0] and not watched.empty:
            watched.notes.append("no optimizer took a step, and no model with weights was called")
        else:
            what = "no optimizer took a step, and no model was called"
            error = "; ".join([f"it never trained: {what}", *watched.notes])
    if error is not None:
        return {"error": error} | ({"compiled": True} if watched.compiled else {})
    if not watched.peak()[0]:
        watched.notes.append("nothing was put on a GPU: is there an option for it, as --cuda?")
    cost = mode.cost.result(options.gpu, len(watched.allocators.used()))
    found = result.of(tracker, watched, context.loaders, mode.cost, options)
    events = watched.allocators.part(tracker.events, watched.allocators.fullest())
    found |= timeline.inside(events, tracker.kind, lines, options)
    return found | {"cost": cost, "seconds": time.perf_counter() - start}


def first_batch_size(
    script: Path, scratch: Path, options: Options, send: Callable[[dict], None]
) -> dict:
    """Run a script up to its first loader: {"batch_size": the loader's, None if it has none}."""
    guard = audit.Sandbox(script, scratch)
    tracker = Tracker()
    mode, _, _ = setup.prepare(tracker, Watched(), script, options)
    found = {"batch_size": None}

    def first(loader, dataset, size=1, *args, **kwargs):
        found["batch_size"] = kwargs.get("batch_size", size)
        raise Steady

    torch.utils.data.DataLoader.__init__ = first
    _redirect(scratch)
    guard.watch()
    send({})  # as in `predict`
    with contextlib.suppress(BaseException), mode:  # a number that it cannot do with, say
        _run(_code(script, options), str(script))
    return found


def _redirect(scratch: Path) -> None:
    """Let the script's files and programs be those of a prediction."""
    checkpoints.install(written_files.install(scratch))
    programs.install()


def _code(script: Path, options: Options) -> CodeType:
    """The script as it is, or with another number; its loops are marked."""
    text, name = script.read_bytes(), str(script)
    tree = ast.parse(text, name)
    if options.number:
        tree = source.replaced(text, name, options.number, options.batch_size)
    return compile(marks.marked(tree), name, "exec", dont_inherit=True)


def _run(code: CodeType, name: str) -> None:
    """Run a script's code as `python SCRIPT` does."""
    main = ModuleType("__main__")
    main.__file__ = name
    sys.modules["__main__"] = main
    exec(code, vars(main))


def _explain(script: Path, failure: BaseException) -> str:
    """A failure in one line, with the place in the script where it happened."""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(failure.__traceback__)
        if frame.filename == str(script)
    ]
    where = f"line {lines[-1]}: " if lines else ""
    if isinstance(failure, SyntaxError):
        place = f"line {failure.lineno}: " if failure.lineno else ""
        return f"{place}{messages.brief(messages.text_of(failure.msg))}"
    if isinstance(failure, (setup.Unpredictable, NotApplied, Unsized, NotHere)):
        return f"{where}{failure}"
    if isinstance(
        failure,
        (compat.DynamicOutputShapeException, compat.DataDependentOutputException),
    ):
        return f"{where}a shape depends on the data, which is not known here"
    text = messages.brief(messages.text_of(failure))
    if why := EXPLAINED.search(messages.text_of(failure)):  # of Dynamo
        text = f"{text} ({messages.brief(why[1])})"
    if isinstance(failure, compat.UnsupportedOperatorException) or "data pointer" in text:
        return f"{where}an operator of its own has no rule for shapes ({text})"
    told = text or (hints.statement(str(script), lines[-1]) if lines else "")
    return f"{where}{type(failure).__name__}: {told}{hints.hint(failure, text)}"
