"""Run the ladder's scripts, unmodified, on this machine's CPU: small model, real but small data.

    python rehearse.py                          the whole ladder
    python rehearse.py 03_bfloat16.py           one script, or several
    python rehearse.py --show 03_bfloat16.py    with the script's own output
    python rehearse.py --resume                 without those whose rows would be the same again

Stand-ins take the place of GPUs, data and pretrained models (see rehearsal/); a script for several
GPUs runs in several processes. As many scripts run at a time as there are cores and memory for;
losses and accuracies do not depend on that. Rows are kept in results/local/rehearsed.json.
Exit status: 0, also if a script ran but learned nothing; 1 if a script failed; 2 if nothing can be
done, or a row not be kept; 130 after Ctrl-C.
"""

import os
import signal
import sys

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing to tell or to tidy up yet
    if sys.path[:1] != [os.path.dirname(os.path.abspath(__file__))]:  # python -P
        sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import argparse
import importlib.util
import math
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from ladder import fingerprints, rows
from ladder.rungs import ROOT, LadderError, read_rung
from ladder.scripts import UnknownScript, display_name, find_scripts
from rehearsal.needs import needs
from rehearsal.outcome import found_in, together, why_failed
from rehearsal.progress import Progress
from vramcast.command.report import console
from vramcast.processes import launchers, messages
from vramcast.processes.entry import STOPPED, Parser, as_command, end_as_after_ctrl_c
from vramcast.processes.output import Output, full, no_room, to_file
from vramcast.processes.pool import Pool, available_memory, cores
from vramcast.processes.supervisor import (
    Ended,
    end_forkserver,
    run,
    scratch_folder,
    start_forkserver,
)

RESULTS = rows.LOCAL / "rehearsed.json"
LAST = 20  # lines of a failed script's output that are shown
NEEDED = ("torch", "torchvision", "lightning", "torchmetrics", "tqdm", "watermark")
NEEDED += ("sklearn", "safetensors", "rich")
PREDICTED = ("--gpu", "--gpus", "--fits", "--what-if", "--with", "--batch-size", "--timeline")
COLUMNS = (  # key, heading, width, format
    ("script", "script", 28, "s"),
    ("precision", "precision that ran", 25, "s"),
    ("ranks", "ranks", 5, "d"),
    ("parameters_held", "weights", 7, ".0%"),
    ("optimizer_held", "optimizer", 9, ".0%"),
    ("seconds", "seconds", 7, ".1f"),
    ("images_per_second", "samples/s", 9, ".0f"),
    ("loss_first", "loss: first", 11, ".3f"),
    ("loss_last", "last", 6, ".3f"),
    ("accuracy", "test acc.", 9, ".1%"),
    ("host_gb", "RAM, GB", 7, ".2f"),
)
LEGEND = (
    "ranks: processes that trained together. weights, optimizer: which part of the parameters and\n"
    "of the optimizer's numbers one rank keeps. samples/s, losses: of all ranks. RAM: of this\n"
    "rehearsal's largest process, not what the script would need. seconds: from a script's first\n"
    "line to its last. Accuracies are of small models on small data."
)


def table_line(texts: Iterable[str]) -> str:
    """A line of the table, with one text for each column."""
    return "  ".join(
        text.ljust(width) if form == "s" else text.rjust(width)
        for text, (_, _, width, form) in zip(texts, COLUMNS, strict=True)
    )


def table_row(row: dict) -> str:
    """A script's line of the table; its end says if it failed or did not learn."""
    row = row | {"script": messages.plain(Path(row["script"]).name)}
    values = [(row[key], form) for key, _, _, form in COLUMNS]
    line = table_line("-" if value is None else format(value, form) for value, form in values)
    if "error" in row:
        return f"{line}  FAILED"
    return f"{line}  did not learn" if row["learned"] is False else line


def rehearse(script: Path, show: bool) -> tuple[dict, dict[str, str], list[str]]:
    """Run one script in a process of its own: its row, its stand-ins, its hidden output's end."""
    with scratch_folder("rehearsal-") as folder, Output(folder / "output.txt") as output:
        status = run(run_script, folder, script, show, meanwhile=output.bound)
        files = sorted(folder.glob("rank-*.json"))
        found = [found_in(messages.read_file(file)) for file in files]
        ranks = list(filter(None, found))
        lines = output.last(LAST) + ([no_room(folder)] if full(folder) else [])
    row = {key: None for key, *_ in COLUMNS} | {"learned": None}
    row |= together(ranks) if ranks else {}
    row["script"] = display_name(script)
    row["fingerprint"] = fingerprints.of(script, "rehearsed")
    error = why_failed(status, ranks)
    if error is None and len(ranks) < len(found):
        error = "what one of its processes left is no record of a rehearsal"
    return row | ({"error": error} if error else {}), ranks[0]["stand_ins"] if ranks else {}, lines


def run_script(folder: Path, send: Callable, script: Path, show: bool) -> None:
    """Run the script in this process, with its output shown, or in a file."""
    from tqdm import tqdm

    from rehearsal.run import main

    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if not show:
        to_file(folder / "output.txt", 1, 2)
    sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    launchers.forget()
    tqdm.set_lock(threading.RLock())  # by default a semaphore, which outlives a killed process
    os.environ["DATA_DIR"] = str(folder)
    os.environ["RESULTS_DIR"] = str(folder)  # a rehearsal is not a measurement
    os.environ["PYTHONUNBUFFERED"] = "1"

    main(str(script), str(folder))


def summary(ran: list[dict], seconds: float) -> str:
    """How the rehearsal went: how many scripts ran, which failed or did not learn, and why."""
    failed = [row for row in ran if "error" in row]
    lines = [f"{len(ran) - len(failed)} of {len(ran)} scripts ran to the end, in {seconds:.0f} s."]
    lines += [f"Failed: {row['script']}: {row['error']}" for row in failed]
    for row in ran:
        if row["learned"] is False and "error" not in row:
            lesson = first_line(row["script"])
            meant = f", as is its lesson: {lesson}" if "negative result" in lesson else ""
            lines.append(f"Did not learn: {row['script']}{meant}")
    return "\n".join(map(messages.plain, lines))


def first_line(script: str) -> str:
    """The first line of a ladder script's docstring; "" for other scripts."""
    try:
        return read_rung(ROOT / script).title
    except (LadderError, ValueError):
        return ""


class Asked(Parser):
    """A parser that knows the questions which another command answers."""

    def error(self, message: str) -> None:
        if message.startswith("unrecognized arguments") and set(sys.argv) & set(PREDICTED):
            message += ". GPU memory is predicted, by  python -m vramcast SCRIPT --gpu 8"
        super().error(message)


def read_command() -> argparse.Namespace:
    """The command line, with `script` as a list of paths; exit status 2 if it cannot be met."""
    parser = Asked(description="Run scripts of the ladder, unmodified, on this machine's CPU.")
    parser.add_argument("script", nargs="*", help="a script; none means the whole ladder")
    parser.add_argument(
        "--show", action="store_true", help="show the scripts' own output, one after the other"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="N processes that compute at a time (default: one a core, as far as memory allows)",
    )
    parser.add_argument(
        "--resume", action="store_true",
        help="leave out scripts whose rows are kept, if neither they nor packages have changed",
    )  # fmt: skip
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="where rows are kept (default: %(default)s)"
    )
    options = parser.parse_args()
    if options.jobs is not None and options.jobs < 1:
        parser.error("--jobs has to be 1 or more")
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        parser.error(
            f"not installed here: {', '.join(missing)}. Install with  "
            "pip install -r requirements.lock  or run  make ladder"
        )
    try:
        options.script = list(dict.fromkeys(find_scripts(options.script)))
        rows.check(options.results)
        options.before = {}
        if options.resume:
            options.before = rows.unchanged(options.results, options.script, "rehearsed")
    except (UnknownScript, LadderError, ValueError) as error:
        parser.error(str(error))
    return options


class Rehearsal:
    """All scripts that were asked for: their rows are kept as they end, and shown in order."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.ran: list[dict] = []  # rows
        self.kept: list[str] = []  # of these scripts
        self.lost: dict[str, str] = {}  # why those of others are not
        self.stand_ins: dict[str, str] = {}
        new = [script for script in options.script if script not in options.before]
        self._options, self._needs = options, needs(new)
        self._slots = 1 if options.show else options.jobs or cores()
        on_terminal = sys.stdout.isatty() and not options.show
        self._progress = Progress(self._needs, self._slots, on_terminal)
        self._keeping = threading.Lock()

    def run(self) -> None:
        """Rehearse them all, side by side. Raises Ended or OSError if that cannot go on."""
        memory = math.inf if self._options.jobs else available_memory()
        futures = []
        try:
            with Pool(self._slots, memory) as pool:
                for script, need in self._needs.items():
                    job = pool.submit(self._one, script, slots=need.ranks, memory=need.memory)
                    futures.append(job)
                done = pool.in_order()
                for script in self._options.script:
                    if script in self._options.before:
                        self._show(self._options.before[script], {}, [])
                        continue
                    future = next(done)
                    futures.remove(future)
                    self._show(*future.result())
        finally:  # after Ctrl-C, say: those that ended before their turn
            for future in futures:
                if not (future.cancelled() or future.exception()):
                    self._show(*future.result())

    def _one(self, script: Path) -> tuple[dict, dict[str, str], list[str]]:
        """Rehearse one script, in a thread of its own, and keep its row."""
        seconds = None
        self._progress.begins(script)
        try:
            row, given, output = rehearse(script, self._options.show)
            with self._keeping:
                self._keep(row)
            seconds = row["seconds"]
        finally:
            self._progress.ends(script, seconds)
        return row, given, output

    def _keep(self, row: dict) -> None:
        """Keep a row; if that fails (a full disk, say), it is still shown."""
        try:
            rows.keep([row], self._options.results)
            self.kept.append(row["script"])
        except (OSError, rows.Damaged) as error:
            self.lost[row["script"]] = str(error)

    def _show(self, row: dict, given: dict[str, str], last: list[str]) -> None:
        from rich.text import Text

        self.ran.append(row)
        self.stand_ins |= given
        style = "red" if "error" in row else "yellow" if row["learned"] is False else ""
        with self._progress.hidden():
            console().print(Text(table_row(row), style=style))
            if "error" in row:
                told = [] if last and row["error"].endswith(last[-1]) else [row["error"]]
                print("".join(f"    {line}\n" for line in last + told), flush=True)


def main() -> int:
    options = read_command()
    rehearsal, start, stopped, status = Rehearsal(options), time.monotonic(), "", 0
    print(f"{LEGEND}\n", flush=True)
    print(table_line(heading for _, heading, _, _ in COLUMNS), flush=True)
    try:
        end_as_after_ctrl_c()
        start_forkserver("rehearsal.run")
        rehearsal.run()
        status = 1 if any("error" in row for row in rehearsal.ran) else 0
    except KeyboardInterrupt:
        stopped, status = "Stopped", STOPPED
    except (Ended, OSError) as error:
        stopped, status = f"Stopped: {error}", 2
    finally:
        end_forkserver()
    ran = rehearsal.ran
    if stopped:
        print(f"\n{stopped}. {len(ran)} of {len(options.script)} scripts ran.")
    else:
        print("\nWhat ran in the place of what:" if rehearsal.stand_ins else "")
        print("".join(f"  {asked}: {given}\n" for asked, given in rehearsal.stand_ins.items()))
        print(summary(ran, time.monotonic() - start))
        if status and not options.show:
            print("(--show shows a script's whole output.)")
    kept, lost = rehearsal.kept, rehearsal.lost
    if options.before:
        print(rows.told_unchanged(len(options.before)))
    elif not kept:
        print("No row was kept.")
    if kept:
        print(f"Rows kept in {options.results}")
    for script, reason in lost.items():
        print(f"Not kept: the row of {script}: {reason}", file=sys.stderr)
    return 2 if lost and status != STOPPED else status


if __name__ == "__main__":
    as_command(main)
