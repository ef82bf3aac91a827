"""The iterations at which a script's conditions change, judged by the numbers that they compare.

If `step == 500` compares 3 and 500, and in the iteration before 2 and 500, it changes in 497
iterations: the last change is taken for all.
"""

import math
from dataclasses import dataclass, field

NEAR = 20  # iterations within which is waited for a number that the loop cannot move on
UNTRAINED = 1000  # and within which, where nothing has been trained yet: until a buffer is filled
MANY = 1000  # numbers of a list, beyond which the next one is not looked for
MOST = 12  # times that one condition is visited

Pair = tuple[int, int]


@dataclass(frozen=True)
class Condition:
    """A comparison or a remainder in a condition."""

    number: int
    place: str  # its line
    kind: str  # "order", "remainder", or "among" several
    ends: bool  # whether its loop may end there


class Compared:
    """All whole numbers that conditions compared, as they were last."""

    def __init__(self) -> None:
        self.pairs: dict[Condition, Pair] = {}
        self._left: dict[int, int] = {}
        self._conditions: dict[int, Condition] = {}

    def see(self, value: object, key: tuple) -> object:
        """Note one of the two numbers of a condition; returns it."""
        if key[2] == "among" and key[-1]:
            seen = _next(value, self._left.get(key[0]))
        elif type(value) is int:
            seen = value
        elif type(value).__module__ == "numpy" and hasattr(value, "__index__"):
            seen = int(value) if getattr(value, "ndim", 1) == 0 else None
        else:
            return value
        number, *_, second = key
        if seen is None:
            self._left.pop(number, None)
            self.pairs.pop(self._conditions.get(number), None)
        elif not second:
            self._left[number] = seen
        elif number in self._left:
            condition = self._conditions.get(number)
            if condition is None:
                condition = self._conditions[number] = Condition(*key[:-1])
            self.pairs[condition] = self._left.pop(number), seen
        return value


def _next(several: object, number: int | None) -> int | None:
    """The next larger whole number among several; None if there is none, or they are many."""
    if number is None or type(several) not in (tuple, list, set, frozenset, dict):
        return None
    if len(several) > MANY:
        return None
    return min((one for one in several if type(one) is int and one > number), default=None)


@dataclass
class Points:
    """The points of one loop."""

    now: dict[Condition, Pair] = field(default_factory=dict)
    # how much more the left number is than the right one with each iteration; the left one alone
    change: dict[Condition, tuple[float, float]] = field(default_factory=dict)
    number: int | None = None  # the loop's own
    met: set[Condition] = field(default_factory=set)  # remainders that were 0
    own: set[Condition] = field(default_factory=set)  # whose numbers did not follow it

    def turn(self, pairs: dict[Condition, Pair], number: int | None, step: int) -> None:
        """An iteration is over, in which the loop's own number was this one, if it has one."""
        passed = 1
        if number is not None and self.number is not None:
            passed = (number - self.number) // step or 1
        for condition, (left, right) in pairs.items():
            if condition.kind == "remainder" and right and left % right == 0:
                self.met.add(condition)
            if condition in self.now:
                old_left, old_right = self.now[condition]
                more = left - old_left
                if number is not None and self.number is not None and more != passed * step:
                    self.own.add(condition)
                turns = 1 if condition in self.own else passed
                self.change[condition] = (more - right + old_right) / turns, more / turns
        self.now, self.number, self.step = dict(pairs), number, step

    def follows(self, condition: Condition) -> bool:
        """Whether a condition's number moves on with the loop's own."""
        return self.number is not None and condition not in self.own

    def ahead(
        self, visits: dict[Condition, int], rising: bool, left: int | None, wait: int = NEAR
    ) -> dict[Condition, int]:
        """The conditions to be visited, and in how many iterations each changes.

        `visits`: how often each was. `rising`: whether the last one left something behind. `left`:
        iterations until the loop ends. `wait`: iterations within which a condition is waited for
        whose number the loop cannot move on.
        """
        found = {}
        for condition, distance in self._distances().items():
            wanted = 2 if condition.kind == "order" else 1
            if rising or condition.kind == "among":
                wanted = MOST
            near = self.follows(condition) or distance <= wait
            inside = left is None or distance <= left
            if not condition.ends and near and inside and visits.get(condition, 0) < wanted:
                found[condition] = distance
        return found

    def counts(self) -> bool:
        """Whether a condition may change by a number that does not move on with the loop's own."""
        return any(not self.follows(condition) for condition in self._distances())

    def end(self) -> int | None:
        """In how many iterations a condition ends the loop; None if that is not known."""
        distances = self._distances().items()
        return min((n for condition, n in distances if condition.ends), default=None)

    def unseen(
        self, visits: dict[Condition, int], left: int | None, cut: bool = False
    ) -> dict[Condition, int]:
        """The conditions that change later and were not visited, and in how many iterations.

        A remainder that was 0 in an iteration that was run is no such condition. One that was
        visited in vain, since its number did not move on with the loop's own, is; so is one that
        left something behind each time that it was visited. `cut`: whether loops within were not
        run to their end, so that what a script counts by itself would be further.
        """
        return {
            condition: distance
            for condition, distance in self._distances().items()
            if condition not in self.met and not condition.ends
            and (not 0 < visits.get(condition, 0) < MOST or condition in self.own)
            and (left is None or distance <= left or (cut and condition in self.own))
        }  # fmt: skip

    def _distances(self) -> dict[Condition, int]:
        found = {}
        for condition, (more, of_left) in self.change.items():
            if condition not in self.now:
                continue
            left, right = self.now[condition]
            if condition.kind != "remainder":
                if more and (left - right) * more <= 0:
                    found[condition] = max(math.ceil(abs((left - right) / more)), 1)
            elif right > 0 and of_left > 0 and of_left == more:
                found[condition] = math.ceil((right - left % right) / of_left)
        return found
