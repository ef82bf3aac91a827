"""How a command begins and ends: its streams, its signals, its exit status.

Status 1 is an answer ("does not fit"). All that is no answer is status 2: a stream that is closed
or full, a fault of the command itself.
"""

import argparse
import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from vramcast.processes import keeper

NO_ANSWER, STOPPED = 2, 130
OUT, ERR = 1, 2  # descriptors


class NoAnswer(Exception):
    """Ends a command with status 2; the message is a sentence for its user."""


class Parser(argparse.ArgumentParser):
    """An argument parser for which "--" is no value: of `--name=--`, argparse makes a list."""

    def parse_known_args(self, args=None, namespace=None):
        for word in sys.argv[1:] if args is None else args:
            if word.startswith("--") and word.endswith("=--"):
                self.error(f"argument {word.removesuffix('=--')}: expected one argument")
        return super().parse_known_args(args, namespace)


def as_command(main: Callable[[], int]) -> NoReturn:
    """Be a command in a process of its own: end it with the exit status that `main` returns.

    Until `main` has something to tell or to tidy up, Ctrl-C simply ends it. What a stream's
    encoding lacks is written as an escape. Whatever `main` raises is told on standard error, with a
    traceback only if it is a fault of the command; but nothing is said if what it prints is not
    read any more, as by `head`. Processes that others leave become this one's (see
    `supervisor.end_forkserver`).
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    closed = _opened()
    keeper.adopt_orphans()
    try:
        if OUT in closed:
            raise NoAnswer("Standard output is closed: there is nowhere to put the answer.")
        if not _in_a_folder():
            raise NoAnswer("The working directory has been removed: change to another one.")
        status = main()
        sys.stdout.flush()
    except SystemExit as leaving:
        status = leaving.code or 0
        if type(status) is not int:
            _tell(str(status))
            status = NO_ANSWER
    except KeyboardInterrupt:
        _tell("\nStopped.")
        status = STOPPED
    except NoAnswer as reason:
        _tell(str(reason))
        status = NO_ANSWER
    except BrokenPipeError:
        status = NO_ANSWER
    except OSError as failure:
        where = "" if failure.filename else " (standard output may be what cannot be written)"
        _tell(f"No answer: {failure}{where}")
        status = NO_ANSWER
    except Exception as failure:
        _tell("".join(traceback.format_exception(failure)))
        _tell(
            "No answer: this is a fault of the command, not of a script. Please report it, with "
            "the lines above."
        )
        status = NO_ANSWER
    if not _flushed(OUT) and status != STOPPED:
        _tell("No answer: standard output cannot be written.")
        status = NO_ANSWER
    _flushed(ERR)
    sys.exit(status)


def end_as_after_ctrl_c() -> None:
    """Treat every polite request to end (SIGTERM, SIGHUP) as Ctrl-C; `nohup` keeps its meaning."""
    for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if sign != signal.SIGHUP or signal.getsignal(sign) != signal.SIG_IGN:
            signal.signal(sign, signal.default_int_handler)


def _in_a_folder() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def _opened() -> list[int]:
    """Open the streams that are closed, as files that hold nothing; which these were.

    Otherwise the next file or pipe that is opened would get their number, and what is printed.
    """
    closed = []
    for number in (0, OUT, ERR):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number is free
            closed.append(number)
    if sys.stdout is None:
        sys.stdout = os.fdopen(OUT, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(ERR, "w", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")
    return closed


def _tell(text: str) -> None:
    with contextlib.suppress(OSError):  # then nobody can be told
        print(text.rstrip(), file=sys.stderr, flush=True)


def _flushed(number: int) -> bool:
    """Whether all of a stream could be written; if not, the rest is dropped."""
    try:
        (sys.stdout if number == OUT else sys.stderr).flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)
        return False
    return True
