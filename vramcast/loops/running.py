"""The loops of a script while they run: which of their iterations are left out.

A loop without a loader that trains, adds up gradients or evaluates without them ends once its
memory has been at rest for some iterations. Then come those at which one of its conditions changes,
and, as far as the loop runs over a `range`, one in each quarter and the last one. So does a loop
over a range in which loaders are used, over epochs. A loop over a loader ends with the loader
(libraries/loaders.py). Other loops run to their end, unless memory grows in them: then the rest is
counted (growth.py).
"""

import builtins
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from vramcast.loops import marks
from vramcast.loops.course import Course
from vramcast.loops.growth import Growth
from vramcast.loops.points import NEAR, UNTRAINED, Compared, Condition, Points
from vramcast.memory.tracker import Tracker

if TYPE_CHECKING:
    from vramcast.loops.watched import Watched

FIRST = 20  # iterations at rest, after which a loop ends that takes steps or has no gradients
LARGE = 5  # in its place, if an iteration makes thousands of tensors, which takes its time here
BY_HAND = 100  # and after which one ends that only has backward passes, if something counts in it
AGAIN = 2  # and after which one ends whose line has ended so before
LATER = 5  # and after which one ends that was at rest before, and has gone on to later iterations
EPOCHS = 5  # and after which one ends in which loaders are used, if it is over a `range`


class Loops:
    """The loops that run now, the innermost last."""

    def __init__(self, tracker: Tracker, watched: "Watched", script: Path) -> None:
        self.tracker, self.watched, self.script = tracker, watched, script
        self.running: list[Loop] = []
        self.compared = Compared()
        self.visits: dict[Condition, int] = {}  # how often each was seen to change on purpose
        self.ended: set[str] = set()  # lines of loops that have ended early

    def install(self) -> None:
        """Let the marks in the source (marks.py) come here."""
        setattr(builtins, marks.LOOP, self.run)
        setattr(builtins, marks.ENDLESS, lambda place: self.run(itertools.count(), place))
        setattr(builtins, marks.NUMBER, self.compared.see)
        marks.install(self.script.parent)
        self.watched.loops = self

    def run(self, items: Iterable, line: str) -> Iterator:
        """The items of a loop, without those that are left out."""
        loop = Loop(self, items, line)
        self.running.append(loop)
        try:
            yield from loop.items()
        finally:
            self.running.remove(loop)

    def counting(self) -> bool:
        """Whether a loop decides when the training in it ends."""
        return any(not loop.fed for loop in self.running)

    def bounded(self) -> bool:
        """Whether it is known how often the innermost loop runs."""
        return bool(self.running) and self.running[-1].left() is not None

    def more(self, course: Course, left: int | None) -> int:
        """For a loader that would end: how many batches on its loop wants the next one, or 0."""
        loop = next((loop for loop in reversed(self.running) if loop.fed), None)
        return loop.next_point(course, left) or loop.unseen(left) if loop else 0

    def end(self) -> bool:
        """Let the innermost loop end that does not do so yet; False if there is none."""
        for loop in reversed(self.running):
            if not loop.over:
                loop.over = True
                return True
        return False


class Loop:
    """One loop, from its begin to its end."""

    def __init__(self, loops: Loops, iterable: Iterable, line: str) -> None:
        self.loops, self.watched, self.tracker = loops, loops.watched, loops.tracker
        inner = getattr(iterable, "iterable", None)  # of a progress bar, such as tqdm's
        if type(inner) in (range, enumerate):
            iterable = inner
        self.iterable, self.line = iterable, line
        self.course = Course(self.watched)
        self.growth = Growth(self.course)
        self.points = Points()
        self.fed = False  # a loader gives its items
        self.over = False  # after the running iteration
        self.rested = False  # whether memory has been at rest for long
        self.epochs = type(iterable) is range  # whether loaders are used in each iteration
        # up to the last visit: rises of memory, its peak, and what an iteration allocated
        self.rises, self.most, self.amount = 0, self.course.most, None
        self.place = 0  # of the running iteration
        self.shift = 0  # by which the numbers of `enumerate` were moved on
        self.number: int | None = None  # of the running item, if it has one
        self.step = iterable.step if type(iterable) is range else 1  # from number to number
        self.length = None if isinstance(iterable, itertools.count) else _length(iterable)

    def items(self) -> Iterator:
        """The items, one for each iteration that is run."""
        numbers = self.iterable if type(self.iterable) is range else None
        iterator = None if numbers is not None else iter(self.iterable)
        while numbers is None or numbers[self.place :]:  # whose len() may be too large
            try:
                item = [self._number(numbers) if iterator is None else self._next(iterator)]
            except StopIteration:
                return
            before = self._work(), self.watched.runs
            yield item.pop()  # so that nothing here keeps it
            if self.over:
                return
            steps = self._turn(*before)
            if not steps:
                return
            self.place += steps

    def _number(self, numbers: range) -> int:
        self.number = numbers[self.place]
        return self.number

    def _next(self, iterator: Iterator) -> object:
        before = self.watched.batches
        item = next(iterator)
        self.fed = self.watched.batches > before
        if self.fed and type(self.iterable) is enumerate:
            self.number = item[0] + self.shift
            item = self.number, item[1]
        return item

    def _work(self) -> tuple[int, int, int, int]:
        tracker = self.tracker
        return tracker.steps, tracker.backwards, tracker.passes, tracker.recorded

    def _turn(self, work: tuple[int, int, int, int], runs: int) -> int:
        """An iteration is over: how many on the next one is, 0 if there is none."""
        steps, backwards, _, recorded = work
        if not self.fed and self._work() == work:
            return 1
        self.points.turn(self.loops.compared.pairs, self.number, self.step)
        if self.fed:
            return 1
        self.course.turn(self.place)
        self.growth.turn()
        trained = self.tracker.backwards > backwards
        if self.growth.due(trained):
            left = self.left()
            self.growth.goes_on(left, "iteration", self.line)
            return self._to_last(left)
        evaluated = self.tracker.recorded == recorded
        epoch = self.watched.runs > runs  # a loader was used in it
        self.epochs &= epoch
        if not (trained or evaluated) or (epoch and not self.epochs):
            return 1
        # many backward passes within an iteration say as much as several iterations
        if trained and self.course.quiet and not epoch:
            self.course.quiet += min(self.tracker.backwards - backwards - 1, FIRST // 2)
        told = type(self.iterable) is range and not self.watched.loaders
        accumulates = told and not self.points.counts()
        rest = FIRST if accumulates or self.tracker.steps > steps or not trained else BY_HAND
        rest = LARGE if self.course.large and rest == FIRST else rest
        rest = EPOCHS if epoch else min(rest, LATER) if self.rested else rest
        if self.line in self.loops.ended:
            rest = min(rest, AGAIN)
        if self.course.quiet < rest or (epoch and self.course.varies()):
            return 1
        left = self.left()
        if not self.rested:  # which later iterations would not show
            self.growth.rests(left, "iteration", self.line)
        self.rested = True
        if on := self.next_point(self.course, left) or self.next_quarter():
            return on
        self.watched.varied("iteration", self.line, self.course)
        self.loops.ended.add(self.line)
        return self._to_last(left)

    def left(self) -> int | None:
        """How many iterations come after this one, as far as that is known."""
        if self.length is not None:
            return max(self.length - self.place - 1, 0)
        return self.points.end()

    def next_point(self, course: Course, left: int | None) -> int:
        """In how many iterations a condition changes that the loop wants to see; 0 if none does.

        It is seen once, or twice if it compares two numbers, which differ before and after it; more
        often as long as more stays each time, the peak rises, or iterations then allocate another
        amount, as with another size.
        """
        amount = course.amounts[-1]
        rising = len(course.rises) > self.rises or course.most.peak_rose(self.most)
        rising |= self.amount not in (None, amount)
        self.rises, self.most, self.amount = len(course.rises), course.most, amount
        wait = NEAR if self.tracker.steps else BY_HAND
        wait = wait if self.tracker.backwards else UNTRAINED
        ahead = self.points.ahead(self.loops.visits, rising, left, wait)
        if not ahead:
            return 0
        condition, on = min(ahead.items(), key=lambda item: item[1])
        counts = wait == UNTRAINED and condition.kind == "order" and on <= wait
        if not self.points.follows(condition) or counts:
            on = 1  # its own number goes on with each iteration alone
        visited = [other for other, distance in ahead.items() if distance == on]
        for other in visited:
            self.loops.visits[other] = self.loops.visits.get(other, 0) + 1
        course.quiet -= 2 if visited else 1  # what it keeps is seen an iteration later
        self.shift += on - 1
        return on

    def next_quarter(self) -> int:
        """In how many iterations the next quarter of a range begins; 0 if that was the last one.

        It is run for what changes without a condition, as `sizes[epoch // 30]`.
        """
        if type(self.iterable) is not range or not self.length or self.line in self.loops.ended:
            return 0
        places = [self.length * quarter // 4 for quarter in (1, 2, 3)]
        on = min((place - self.place for place in places if place > self.place), default=0)
        self.course.quiet -= on > 0
        return on

    def unseen(self, left: int | None) -> int:
        """Note which conditions would change in iterations that are left out; returns 0."""
        cut = bool(self.watched.unfinished)
        for condition, on in self.points.unseen(self.loops.visits, left, cut).items():
            self.watched.unseen.setdefault(condition.place, on)
        return 0

    def _to_last(self, left: int | None) -> int:
        """End after one more iteration, the last one if the loop runs over a range."""
        self.unseen(left)
        self.over = True
        done = self.course.turns + (left != 0)
        more = None if left is None else self.place + 1 + left - done
        self.watched.left_out("iterations", self.line, done, more)
        return left if left and type(self.iterable) is range else 1


def _length(iterable: Iterable) -> int | None:
    try:
        return len(iterable)
    except Exception:  # it has none, none that fits, or the script's own __len__ fails
        return None
