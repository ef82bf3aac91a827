"""Watches a prediction while it runs: its memory so far, and whether the script may end.

A script ends after enough work, not after some time: once its memory no longer changes from one
optimizer step to the next. Loops end before (vramcast/loops/, libraries/loaders.py); this is for
what repeats itself elsewhere, as in a library.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from vramcast.loops.course import Course, Memory
from vramcast.loops.growth import Growing, Growth
from vramcast.memory.allocators import Allocators
from vramcast.memory.origins import Origins

if TYPE_CHECKING:
    from vramcast.loops.running import Loops

QUIET = 2  # optimizer steps without a new peak, after which one is not expected any more
STEPS = 20  # and after which a script that uses no loader ends
REPEATED = 500  # and after which any script ends: it repeats itself
PASSES = 2000  # through the model without an optimizer step or a new peak, after which any ends
MOST = 100  # optimizer steps within which a peak has to come to rest
SECONDS = 0.2  # between two reports of how far the script is


class Steady(BaseException):
    """The script's peak does not rise any more. No `except Exception` catches this."""


class Watched:
    """The GPUs' memory while the script runs; answers its questions, and ends it in time."""

    def __init__(self, send: Callable[[dict], None] = lambda report: None) -> None:
        """`send` is called from time to time with how far the script is."""
        self.allocators = Allocators(prompt=False)
        self.created: dict[int, int] = {}  # bytes reserved at most until the model's first call
        self.loaders = self.runs = self.batches = 0  # in use, begun so far, and what they gave
        self.loops: Loops | None = None  # the script's own that run
        self.origins = Origins("")
        # lines of loops that were not run to the end: iterations done, and left if that is known
        self.unfinished: dict[tuple[str, str], tuple[int, int | None]] = {}
        self.unseen: dict[str, int] = {}  # lines of conditions that would change so much later
        self.host = 0  # bytes allocated on the host
        self.taken = 0  # bytes allocated on GPUs so far, also those that were released
        self.made = 0  # tensors there so far
        self.copy: Callable = lambda storage, size: None  # the tracker's
        self.steps = 0
        self.passed = False  # whether a model was called
        self.empty = False  # whether a loader had no batch
        self.quantized = False  # whether weights were, to 4 bits
        self.compiled = False  # whether the script compiles something
        self.phase = "setup"
        self.notes: list[str] = []
        self._send, self._sent = send, time.monotonic()
        self._course = Course(self)  # from step to step
        self._growth = Growth(self._course)
        self._before = self._course.most  # at the last pass
        self._passes = 0
        self._quiet = self._unsettled = 0  # steps without a new peak; steps until there were QUIET

    def sees(self, what: str, storage, other) -> None:
        """Called with each of the tracker's events as it happens.

        Raises Steady if the script may end, and Growing if its memory grows without an end.
        """
        self.allocators.feed(what, storage, other)
        if what == "allocate":
            self.phase = storage.phase
            if storage.device == "cpu":
                self.host += storage.size
            else:
                self.taken += storage.size
                self.made += 1
                if (block := self.allocators[storage.gpu].blocks.get(storage)) is not None:
                    storage.block = block.size
        elif what == "free":
            self.host -= storage.size if storage.device == "cpu" else 0
        elif what == "mark" and other == "created":
            self.created = {gpu: one.max_reserved for gpu, one in self.allocators.items()}
        elif what == "mark" and other == "step":
            self._step()
        elif what == "mark" and other == "pass":
            self._pass()
        if time.monotonic() - self._sent > SECONDS:
            self._sent = time.monotonic()
            self._send(self.report())

    def _step(self) -> None:
        self.steps += 1
        self._passes = 0
        before = self._course.most
        self._course.turn()
        self._quiet = 0 if self._course.most.peak_rose(before) else self._quiet + 1
        self._unsettled = 0 if self._quiet >= QUIET else self._unsettled + 1
        counted = self.loaders or (self.loops and self.loops.counting())
        if not counted:
            self._growth.turn()
            if self._growth.due(trained=True):
                self._growth.goes_on(None, "optimizer step", "")
        if self._course.quiet >= STEPS and not counted:
            self.notes.append(
                f"ended after {self.steps} optimizer steps, {STEPS} of them at rest, in what "
                "is no loop of the script: what would come later is not counted"
            )
            raise Steady
        if self._quiet >= REPEATED and self.loops and self.loops.end():
            self._quiet = 0
        elif self._quiet >= REPEATED:
            self.notes.append(
                f"ended after {self.steps} optimizer steps, {REPEATED} of them without a new peak: "
                "what would come later is not counted"
            )
            raise Steady
        if self._unsettled >= MOST and not (self.loops and self.loops.bounded()):
            now = self._course.most
            raise Growing(
                f"its peak still rises after {self.steps} optimizer steps, by "
                f"{(now.allocated - before.allocated) / 1e6:.3f} MB in the last one, to "
                f"{now.reserved / 1e9:.2f} GB reserved, and how often is not known"
            )

    def _pass(self) -> None:
        """The model is called. Raises Steady if that was very often, without a training step."""
        self.passed = True
        now = self.memory()
        self._passes = 0 if now.peak_rose(self._before) else self._passes + 1
        self._before = now
        if self._passes >= PASSES:
            self.notes.append(
                f"ended after {PASSES} passes through the model without an optimizer step or a new "
                "peak: what would come later is not counted"
            )
            raise Steady

    def memory(self) -> Memory:
        """The memory so far, and now, of all GPUs together."""
        level = sum(one.allocated for one in self.allocators.values())
        return Memory(*self.peak(), level, self.host)

    def left_out(self, what: str, line: str, done: int, left: int | None) -> None:
        """Note that a loop was not run to its end; the longest run of each line counts."""
        if left == 0:
            return
        before = self.unfinished.get((what, line))
        if before is None or done > before[0]:
            self.unfinished[what, line] = done, left

    def varied(self, what: str, line: str, course: Course) -> None:
        """Note that what the iterations of a loop allocate differs, if it does at its end."""
        if course.varies():
            self.notes.append(
                f"{line}: what is allocated differs from {what} to {what}: the most of the "
                f"{course.turns} that were run counts"
            )

    def peak(self) -> tuple[int, int]:
        """The peaks so far, of all GPUs together: bytes allocated, and bytes reserved."""
        each = self.allocators.values()
        return sum(one.max_allocated for one in each), sum(one.max_reserved for one in each)

    def at_rest(self) -> bool:
        """Whether the memory has not risen for some optimizer steps."""
        return self._quiet >= QUIET and self._course.quiet >= QUIET

    def tell(self, phase: str) -> None:
        """Report at once that something begins which takes long."""
        self.phase, self._sent = phase, time.monotonic()
        self._send(self.report())

    def report(self) -> dict:
        """How far the script is: phase, optimizer steps, and a GPU's peak so far in GB."""
        return {
            "phase": self.phase,
            "steps": self.steps,
            "reserved_gb": max(one.max_reserved for one in self.allocators.values()) / 1e9,
        }
