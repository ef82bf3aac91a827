"""One prediction in a process of its own."""

import json
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from ladder.scripts import display_name
from vramcast.options import Options
from vramcast.processes.supervisor import run, scratch_folder, write_json


class NoPrediction(Exception):
    """Nothing can be said about a script; the message says why."""

    def __init__(self, script: str, reason: str) -> None:
        super().__init__(f"{script}: {reason}")
        self.script, self.reason = script, reason


def predict(
    script: Path,
    options: Options,
    told: Callable[[dict], None] | None = None,
    show: bool = False,
) -> dict:
    """A script's prediction; NoPrediction, and the exceptions of `supervisor.run`.

    `told` is called from time to time with how far it is (see `Watched.report`). `show`: whether
    the script's own output goes to standard error.
    """
    return {"script": display_name(script)} | _ask(script, "predict", options, told, show)


def first_batch_size(script: Path, options: Options) -> int | None:
    """The batch size that a script hands to its first loader; NoPrediction."""
    return _ask(script, "first_batch_size", options, None, False)["batch_size"]


def _ask(script: Path, question: str, options: Options, told, show: bool) -> dict:
    with scratch_folder("prediction-") as folder:
        status = run(_answer, folder, script, question, options, show, told=told)
        result = folder / "result.json"
        if not result.exists():
            output = folder / "output.txt"
            last = output.read_text(errors="replace").splitlines()[-5:] if output.exists() else []
            lines = "".join(f"\n    {line}" for line in last)
            ending = (
                f"it was ended by signal {-status} ({signal.Signals(-status).name})"
                if status < 0
                else f"it ended its own process, with status {status}"
            )
            raise NoPrediction(display_name(script), f"{ending}{lines}")
        answer = json.loads(result.read_text())
    if "error" in answer:
        raise NoPrediction(display_name(script), answer["error"])
    return answer


def _answer(
    folder: Path, send: Callable, script: Path, question: str, options: Options, show: bool
) -> None:
    """In the script's process: run it, and write the answer into the folder."""
    target = 2 if show else os.open(folder / "output.txt", os.O_CREAT | os.O_WRONLY)
    for stream in (1, 2):  # the command's standard output is for the result
        os.dup2(target, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for name in ("DATA_DIR", "RESULTS_DIR", "TMPDIR", "HOME", "HF_HOME", "TORCH_HOME"):
        os.environ[name] = str(folder)
    tempfile.tempdir = str(folder)
    sys.dont_write_bytecode = True
    from tqdm import tqdm

    from vramcast.run import script as script_run

    tqdm.set_lock(threading.RLock())  # by default a semaphore, which outlives a killed process
    more = (send,) if question == "predict" else ()
    answer = getattr(script_run, question)(script, folder, options, *more)
    write_json(answer, folder / "result.json")
    os._exit(0)
