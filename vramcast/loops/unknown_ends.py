"""Loops of a script that end by numbers that are not known: how often each ran, in a note."""

from vramcast.loops.watched import Steady

MOST = 2000  # readings after which a loop is taken not to end


class UnknownEnds:
    """Counts the readings of numbers in the lines that decide how often a loop runs."""

    def __init__(self, lines: dict[int, tuple[int, bool]]) -> None:
        """`lines`: for each of these lines, the loop's line, and whether it is its condition."""
        self.lines = lines
        self.counts: dict[int, int] = {}

    def read(self, line: int | None) -> None:
        """A number that is not known is read there. Raises Steady if that was very often."""
        if line not in self.lines:
            return
        self.counts[line] = self.counts.get(line, 0) + 1
        if self.counts[line] > MOST:
            raise Steady

    def notes(self) -> list[str]:
        """A note for each loop: how often it ran."""
        found = {}
        for line, count in self.counts.items():
            loop, condition = self.lines[line]
            many = count - 1 if condition else count if line != loop else 0
            found[loop] = max(many, found.get(loop, 0))
        return [
            f"line {loop}: a loop ends by a number that is not known here: it ran {many} times"
            + " and was ended" * (many >= MOST)
            for loop, many in found.items()
        ]
