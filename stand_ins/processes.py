"""What both commands share: which scripts are meant, and the processes that run them."""

import contextlib
import json
import multiprocessing.forkserver
import os
import signal
from pathlib import Path

from stand_ins.ladder import ROOT, read_ladder


class UnknownScript(Exception):
    """A name on the command line belongs to no file."""


def find_scripts(names: list[str]) -> list[Path]:
    """The named scripts, or the whole ladder if none is named; UnknownScript, LadderError.

    A name counts from the working directory, then from the repository, then as one of the ladder's
    in a folder, and may lack its `.py`.
    """
    if not names:
        return [ROOT / rung.script for rung in read_ladder()]
    scripts = []
    for name in names:
        file = name if name.endswith(".py") else f"{name}.py"
        found = [path for path in (Path.cwd() / file, ROOT / file) if path.is_file()]
        found = found or [path for path in ROOT.glob(f"[0-9]*/{file}") if path.is_file()]
        if not found:
            known = "\n  ".join(rung.script for rung in read_ladder())
            raise UnknownScript(f"there is no script {name}. The ladder's scripts are:\n  {known}")
        scripts.append(found[0].resolve())
    return scripts


def display_name(script: Path) -> str:
    """The script's path in the repository, or its full path where it lies elsewhere."""
    return script.relative_to(ROOT).as_posix() if script.is_relative_to(ROOT) else str(script)


def write_json(content: list | dict, path: Path) -> None:
    """Write a JSON file whole or not at all, into a folder that may have to be made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(content, indent=1) + "\n")
    draft.replace(path)


def end_group(process: multiprocessing.Process) -> None:
    """End a script's process and all that it started: politely first, then for good."""
    try:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
            process.join(timeout=5)
    finally:  # also after a second Ctrl-C
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.join()


def end_forkserver() -> None:
    """End the process that scripts were forked from, which may still be importing."""
    pid = getattr(multiprocessing.forkserver._forkserver, "_forkserver_pid", None)
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def end_as_after_ctrl_c() -> None:
    """Let every polite way to end a command end it as Ctrl-C does."""
    for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, signal.default_int_handler)
