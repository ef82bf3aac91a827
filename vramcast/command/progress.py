"""A line on a terminal that shows how far the running predictions are."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from vramcast.command import report


class Running:
    """The latest news of each running prediction."""

    def __init__(self) -> None:
        self.reports: dict[str, str] = {}
        self.terminal = sys.stderr.isatty()

    def told(self, script: Path) -> Callable[[dict], None]:
        """The function that a prediction of this script calls with its progress."""
        name = script.name

        def show(news: dict) -> None:
            self._show(name, report.progress(name, news))

        return show

    def counted(self, script: Path) -> Callable[[int, int], None]:
        """The function to call with how many predictions of a script are done, of how many."""

        def show(done: int, of: int) -> None:
            self._show(script.name, f"{script.name}: {done} of {of} predicted")

        return show

    def _show(self, name: str, text: str) -> None:
        self.reports[name] = text
        if self.terminal:
            width = shutil.get_terminal_size().columns - 1
            line = " | ".join(self.reports.values())[:width]
            print(f"\r{line}\x1b[K", end="", file=sys.stderr, flush=True)

    def done(self, script: Path) -> None:
        """A prediction has ended: clear the line for its result."""
        self.reports.pop(script.name, None)
        if self.terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
