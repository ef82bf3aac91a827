"""Watches a prediction while it runs: its peak so far, and whether the script may end.

A script ends after enough work, not after some time: once its peak no longer rises from one
optimizer step to the next.
"""

import time
from collections.abc import Callable

from vramcast.memory.allocators import Allocators

NUMBERS = (
    4096  # bytes by which a peak may rise from step to step: so much take a few logged numbers
)
QUIET = 2  # optimizer steps without a new peak, after which one is not expected any more
STEPS = 20  # and after which a script that uses no loader ends
REPEATED = 500  # and after which any script ends: it repeats itself
PASSES = 2000  # through the model without an optimizer step or a new peak, after which any ends
MOST = 100  # optimizer steps within which a peak has to come to rest
SECONDS = 0.2  # between two reports of how far the script is


class Steady(BaseException):
    """The script's peak does not rise any more. No `except Exception` catches this."""


class Growing(BaseException):
    """The peak rises with every step, without an end."""


def rose(before: tuple[int, int], now: tuple[int, int]) -> bool:
    """Whether a peak (bytes allocated, bytes reserved) rose noticeably."""
    return now[0] > before[0] + NUMBERS or now[1] > before[1]


class Watched:
    """The GPUs' memory while the script runs; answers its questions, and ends it in time."""

    def __init__(self, send: Callable[[dict], None] = lambda report: None) -> None:
        """`send` is called from time to time with how far the script is."""
        self.allocators = Allocators(prompt=False)
        self.created: dict[int, int] = {}  # bytes reserved at most until the model's first call
        self.loaders = 0  # in use
        self.steps = 0
        self.passed = False  # whether a model was called
        self.quantized = False  # whether weights were, to 4 bits
        self.phase = "setup"
        self.notes: list[str] = []
        self._send, self._sent = send, time.monotonic()
        self._last = self._before = (0, 0)  # the peaks at the last step, and at the last pass
        self._passes = 0
        self._quiet = self._unsettled = 0  # steps without a new peak; steps until there were QUIET

    def sees(self, what: str, storage, other) -> None:
        """Called with each of the tracker's events as it happens.

        Raises Steady if the script may end, and Growing if its peak rises without an end.
        """
        self.allocators.feed(what, storage, other)
        if what == "allocate":
            self.phase = storage.phase
            if (block := self.allocators[storage.gpu].blocks.get(storage)) is not None:
                storage.block = block.size
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
        peak, last = self.peak(), self._last
        self._quiet = 0 if rose(last, peak) else self._quiet + 1
        self._unsettled = 0 if self._quiet >= QUIET else self._unsettled + 1
        self._last = peak
        if self._quiet >= REPEATED:
            self.notes.append(
                f"ended after {self.steps} optimizer steps, {REPEATED} of them without a new peak: "
                "what would come later is not counted"
            )
        if self._quiet >= REPEATED or (self._quiet >= STEPS and not self.loaders):
            raise Steady
        if self._unsettled >= MOST:
            raise Growing(
                f"its peak still rises after {self.steps} optimizer steps, by "
                f"{(peak[0] - last[0]) / 1e6:.3f} MB in the last one, to {peak[1] / 1e9:.2f} GB "
                "reserved: it seems to keep something of each step"
            )

    def _pass(self) -> None:
        """The model is called. Raises Steady if that was very often, without a training step."""
        self.passed = True
        peak = self.peak()
        self._passes = 0 if rose(self._before, peak) else self._passes + 1
        self._before = peak
        if self._passes >= PASSES:
            self.notes.append(
                f"ended after {PASSES} passes through the model without an optimizer step or a new "
                "peak: what would come later is not counted"
            )
            raise Steady

    def peak(self) -> tuple[int, int]:
        """The peaks so far, of all GPUs together: bytes allocated, and bytes reserved."""
        each = self.allocators.values()
        return sum(one.max_allocated for one in each), sum(one.max_reserved for one in each)

    def at_rest(self) -> bool:
        """Whether the peak has not risen for some optimizer steps."""
        return self._quiet >= QUIET

    def report(self) -> dict:
        """How far the script is: phase, optimizer steps, and a GPU's peak so far in GB."""
        return {
            "phase": self.phase,
            "steps": self.steps,
            "reserved_gb": max(one.max_reserved for one in self.allocators.values()) / 1e9,
        }
