"""One prediction in a process of its own."""

import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from vramcast.options import Options
from vramcast.processes import launchers, messages, supervisor
from vramcast.processes.output import Output, full, no_room, to_file
from vramcast.processes.supervisor import scratch_folder, write_json
from vramcast.run import schema, source
from vramcast.sandbox import shared_memory

# Packages that a script's process has already imported if the script's text names them. It is
# forked from one that has, which saves seconds; and to import them starts programs.
PRELOADED = ("torchvision", "lightning", "torchmetrics")
MEMORY = 1.5e9  # bytes that a prediction's process takes at most, about
FOLDERS = ("DATA_DIR", "RESULTS_DIR", "TMPDIR", "HF_HOME")


def preloaded(*scripts: Path) -> list[str]:
    """Those of these packages that the text of one of the scripts names."""
    names = set().union(*(source.imported(script.read_bytes()) for script in scripts))
    return [name for name in PRELOADED if name in names]


class NoPrediction(Exception):
    """Nothing can be said about a script; the message says why."""

    def __init__(self, script: str, reason: str, compiled: bool = False) -> None:
        """`compiled`: whether the script compiles something, and was predicted as compiled."""
        super().__init__(f"{script}: {reason}")
        self.script, self.reason, self.compiled = script, reason, compiled


def name_of(script: Path) -> str:
    """A script's path from the working directory, or its full path where it lies elsewhere."""
    here = Path.cwd()
    return script.relative_to(here).as_posix() if script.is_relative_to(here) else str(script)


def predict(
    script: Path,
    options: Options,
    told: Callable[[dict], None] | None = None,
    show: bool = False,
) -> dict:
    """A script's prediction (see schema.py), with its name as "script".

    `told` is called from time to time with how far it is (see `Watched.report`). `show`: whether
    the script's own output goes to standard error.

    Raises NoPrediction if nothing can be said about the script, and Ended as `supervisor.run`.
    """
    strange = 0

    def tell(message: object) -> None:
        nonlocal strange
        report = schema.report(message)
        strange += report is None
        if report is not None and told is not None:
            told(report)

    reason = None
    try:
        answer = _ask(script, "predict", options, tell, show)
    except NoPrediction as failure:
        if not failure.compiled:
            raise
        reason, options = failure.reason, replace(options, eager=True)
        answer = _ask(script, "predict", options, tell, show)
    try:
        row = {"script": name_of(script)} | schema.checked(answer, _asked(options))
    except schema.Malformed as error:
        raise NoPrediction(name_of(script), str(error)) from None
    if strange:
        row["notes"].append(f"{strange} messages of its process were none, and ignored")
    if reason is not None:
        row["notes"].append(f"torch.compile was not followed: {reason}")
    if row.get("compiled"):
        row |= _uncompiled(script, options)
    return row


def _uncompiled(script: Path, options: Options) -> dict:
    """What the same script would need if nothing were compiled; empty if that is not known."""
    plain = replace(options, eager=True, why=False, timeline=False, snapshot=False, room=False)
    with contextlib.suppress(NoPrediction):
        row = schema.checked(_ask(script, "predict", plain, None, False), _asked(plain))
        return {"uncompiled_gb": {key: row[f"{key}_gb"] for key in ("reserved", "allocated")}}
    return {}


def _asked(options: Options) -> list[str]:
    """The parts that an answer has to have because they were asked for."""
    parts = {
        "fits": options.capacity, "room_gb": options.room, "largest": options.why,
        "timeline": options.timeline, "snapshot": options.snapshot,
    }  # fmt: skip
    return [part for part, wanted in parts.items() if wanted]


def first_batch_size(script: Path, options: Options) -> int | None:
    """The batch size that a script hands to its first loader, None if it has none.

    Raises NoPrediction if nothing can be said about the script.
    """
    size = _ask(script, "first_batch_size", options, None, False).get("batch_size")
    return size if type(size) is int else None


def _ask(script: Path, question: str, options: Options, told, show: bool) -> dict:
    with scratch_folder("prediction-") as folder, Output(folder / "output.txt") as output:
        try:
            status = supervisor.run(
                _answer, folder, script, question, options, show,
                told=told, meanwhile=output.bound, limit=options.time_limit,
            )  # fmt: skip
            ending = _ending(status)
        except supervisor.TooLong:
            ending = f"it was not done after {options.time_limit:g} s (--time-limit)"
        answer = messages.read_file(folder / "result.json")
        if type(answer) is not dict:
            lines = output.last(5)
            lines += [no_room(folder)] if full(folder) else []
            raise NoPrediction(name_of(script), ending + "".join(f"\n    {line}" for line in lines))
    if "error" in answer:
        raise NoPrediction(name_of(script), str(answer["error"]), answer.get("compiled") is True)
    return answer


def _ending(status: int) -> str:
    """How a process ended that left no answer."""
    if status < 0:
        return f"it was ended by signal {-status} ({signal.strsignal(-status)})"
    return f"it ended its own process, with status {status}"


def _answer(
    folder: Path, send: Callable, script: Path, question: str, options: Options, show: bool
) -> None:
    """In the script's process: run it, and write the answer into the folder."""
    if show:
        os.dup2(2, 1)  # the command's standard output is for the result
    else:
        to_file(folder / "output.txt", 1, 2)
    for stream in (sys.stdout, sys.stderr):  # a terminal's few characters are no matter here
        stream.reconfigure(errors="backslashreplace")
    launchers.forget()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    home = os.environ.get("HF_HOME") or os.path.join(cache, "huggingface")
    os.environ.setdefault("HF_HUB_CACHE", os.path.join(home, "hub"))  # which is read
    for name in FOLDERS:
        os.environ[name] = str(folder)
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "inductor")
    tempfile.tempdir = str(folder)
    sys.dont_write_bytecode = True
    remove = shared_memory.install()
    try:
        from vramcast.run import script as script_run
    except ImportError as failure:  # a package is missing, or a part of PyTorch (compat.py)
        answer = {"error": str(failure)}
    else:
        answer = getattr(script_run, question)(script, folder, options, send)
    write_json(answer, folder / "result.json")
    remove()
    os._exit(0)
