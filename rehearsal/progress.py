"""A line on a terminal: which scripts run, how many are left, and how long these may take."""

import contextlib
import math
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from rehearsal.needs import Needs

CLEAR = "\r\x1b[K"


class Progress:
    """Knows what runs, from any thread, and draws the line if it is to be `shown`."""

    def __init__(self, expected: dict[Path, Needs], slots: int, shown: bool) -> None:
        self._left, self._slots, self._shown = dict(expected), slots, shown
        self._all = len(expected)
        self._began: dict[Path, float] = {}  # of what runs, by time.monotonic()
        self._expected = self._took = 0.0  # seconds, of all that ended
        self._lock = threading.RLock()

    def begins(self, script: Path) -> None:
        with self._lock:
            self._began[script] = time.monotonic()
            self._draw()

    def ends(self, script: Path, seconds: float | None) -> None:
        """A script has ended; it took so many seconds from its first line on, if that is known."""
        with self._lock:
            del self._began[script]
            if seconds is not None:
                self._expected += self._left[script].seconds
                self._took += seconds
            del self._left[script]
            self._draw()

    @contextlib.contextmanager
    def hidden(self) -> Iterator[None]:
        """The line is cleared for something else to be printed, then drawn again."""
        with self._lock:
            if self._shown:
                print(CLEAR, end="", flush=True)
            try:
                yield
            finally:
                self._draw()

    def minutes(self) -> int | None:
        """How long the rest may take, rounded up; None while nothing is known of this machine."""
        if not self._took:
            return None
        pace, now, seconds = self._took / self._expected, time.monotonic(), 0.0
        for script, need in self._left.items():
            rest = need.seconds * pace - (now - self._began.get(script, now))
            seconds += max(rest, 0) * min(need.ranks, self._slots) / self._slots
        return max(1, math.ceil(seconds / 60))

    def _draw(self) -> None:
        if not self._shown:
            return
        text = ""
        if self._began:
            minutes = self.minutes()
            text = f"{len(self._left)} of {self._all} left"
            text += f", about {minutes} min: " if minutes else ": "
            text += ", ".join(script.stem for script in self._began) + " …"
        print(f"{CLEAR}{text[: shutil.get_terminal_size().columns - 1]}", end="", flush=True)
