"""How far the predictions are that run, in a line that is renewed on a terminal."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from prediction import answers


class Running:
    """What each prediction that runs has told."""

    def __init__(self) -> None:
        self.reports: dict[str, str] = {}
        self.terminal = sys.stderr.isatty()

    def told(self, script: Path) -> Callable[[dict], None]:
        """What a prediction of this script tells how far it is."""
        name = script.name

        def show(report: dict) -> None:
            self.reports[name] = answers.progress(name, report)
            if self.terminal:
                width = shutil.get_terminal_size().columns - 1
                line = " | ".join(self.reports.values())[:width]
                print(f"\r{line}\x1b[K", end="", file=sys.stderr, flush=True)

        return show

    def done(self, script: Path) -> None:
        """This one has ended: its line makes room for its result."""
        self.reports.pop(script.name, None)
        if self.terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
