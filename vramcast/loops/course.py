"""The memory at the end of each iteration of something that repeats itself.

The level decides, not the peak: what is kept below an earlier peak grows, too.
"""

import itertools
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vramcast.loops.watched import Watched

NUMBERS = 4096  # bytes by which memory may rise in an iteration: so much take a few logged numbers
GROWN = 10  # rises after which memory counts as growing
LATELY = 5  # rises that tell how fast
LARGE = 3000  # tensors that an iteration makes on the GPU, from which on it counts as large
STEADY = 3  # rises before which nothing is noted of what stays


@dataclass(frozen=True)
class Memory:
    """Bytes on the GPU and on the host."""

    allocated: int  # at its peak
    reserved: int  # at its peak
    level: int  # allocated now
    host: int  # allocated now

    def rose(self, before: "Memory") -> bool:
        """Whether it is noticeably more than before."""
        return self.peak_rose(before) or self.stays(before)

    def peak_rose(self, before: "Memory") -> bool:
        """Whether a peak is."""
        return self.allocated > before.allocated + NUMBERS or self.reserved > before.reserved

    def stays(self, before: "Memory") -> bool:
        """Whether what is allocated now is."""
        return self.level > before.level + NUMBERS or self.host > before.host + NUMBERS

    def most(self, other: "Memory") -> "Memory":
        """The larger of each figure."""
        return Memory(*map(max, vars(self).values(), vars(other).values()))


class Course:
    """How the memory changes from one iteration to the next."""

    def __init__(self, watched: "Watched") -> None:
        self.watched = watched
        self.turns = self.quiet = 0  # iterations, and those since the memory last rose
        self.most = watched.memory()
        # iteration, and bytes then, where more stayed than ever before; the first one is no rise
        self.rises: list[tuple[int, Memory]] = []
        self.settled: tuple[int, Memory] | None = None  # when the quiet began
        self.made = watched.made  # tensors on the GPU so far
        self.large = False  # whether the last iteration made many
        self.taken = watched.taken  # bytes allocated on the GPU so far, and in the last iterations
        self.amounts: deque[int] = deque(maxlen=LATELY)

    def turn(self, position: int | None = None) -> None:
        """An iteration is over. `position`: its number, if others were left out."""
        self.turns += 1
        position = self.turns if position is None else position
        now, taken = self.watched.memory(), self.watched.taken
        self.large = self.watched.made - self.made > LARGE
        self.made = self.watched.made
        self.amounts.append(taken - self.taken)
        self.taken = taken
        self.quiet = 0 if now.rose(self.most) else self.quiet + 1
        if now.stays(self.most) and self.turns > 1:
            self.rises.append((position, now))
        self.most = now.most(self.most)
        if self.quiet == 0 or self.settled is None:
            self.settled = position, now
        self.last = position, now

    def grows(self) -> bool:
        """Whether more and more stays, about as much each time; or after long, however unevenly."""
        slopes = self._slopes()
        even = bool(slopes) and max(slopes) <= 2 * min(slopes)
        return len(self.rises) >= (GROWN if even else 5 * GROWN)

    def varies(self) -> bool:
        """Whether iterations allocate more or less, as if their sizes were drawn at random."""
        lately = list(self.amounts)
        return len(set(lately[-3:])) == 3 or len(set(lately)) > 3

    def suspect(self) -> bool:
        """Whether it may be that more and more stays."""
        return len(self.rises) >= STEADY

    def rate(self) -> tuple[float, float]:
        """Bytes that stay of each iteration lately: on the GPU, and on the host."""
        rises = self.rises[-LATELY:]
        return _slope(rises[0], rises[-1]) if len(rises) > 1 else (0.0, 0.0)

    def _slopes(self) -> list[float]:
        rises = self.rises[-LATELY:]
        return [sum(_slope(*pair)) for pair in itertools.pairwise(rises)]

    def drift(self) -> float:
        """Bytes on the GPU that stay of each iteration since the memory is at rest."""
        return max(_slope(self.settled, self.last)[0], 0.0) if self.settled else 0.0


def _slope(first: tuple[int, Memory], last: tuple[int, Memory]) -> tuple[float, float]:
    (begin, before), (end, after) = first, last
    turns = max(end - begin, 1)
    return (after.level - before.level) / turns, (after.host - before.host) / turns
