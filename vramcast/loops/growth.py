"""What stays of each iteration of a loop, and as much for the iterations that are left out."""

import gc

from vramcast.loops.course import Course
from vramcast.memory.storages import Storage

WITHOUT = 1000  # iterations in which memory may grow without a backward pass, as in an evaluation
SMALL = 0.01  # of the peak: growth up to that is counted without a note


class Growing(BaseException):
    """Memory grows with each iteration, without an end that is known."""


class Growth:
    """Follows what stays, from when a course is suspected to grow."""

    def __init__(self, course: Course) -> None:
        self.course, self.watched = course, course.watched
        self.begun: list[tuple[int, int]] = []  # each iteration's number, and the tensors before

    def turn(self) -> None:
        """An iteration is over."""
        if self.course.suspect():
            origins = self.watched.origins
            origins.on = True
            origins.forget()
            self.begun.append((self.course.last[0], origins.count))

    def due(self, trained: bool) -> bool:
        """Whether memory has grown so often that the rest is counted instead of run.

        Where nothing is trained, as in an evaluation, iterations are cheap, and what is made of all
        that was kept counts: so they are run.
        """
        course = self.course
        if not course.grows():
            return False
        if not trained and course.turns < WITHOUT:
            return False
        before = self.watched.memory().level
        gc.collect()  # what was kept by a cycle of references alone does not count
        if before - self.watched.memory().level > course.rate()[0]:
            course.rises.clear()
            return False
        return True

    def goes_on(self, left: int | None, what: str, line: str) -> None:
        """Count as much for all but one of so many more iterations, until what stays is released.

        Raises Growing if it is not known how many there are.
        """
        told = self.told(what)
        where = f"{line}: " if line else ""
        if left is None:
            peak = self.watched.memory().reserved / 1e9
            raise Growing(
                f"{where}memory {told}. After {self.course.turns} of them {peak:.2f} GB are "
                "reserved, and how many there will be is not known"
            )
        left, rates = max(left - 1, 0), self.course.rate()
        for device, rate in zip(("cuda", "cpu"), rates, strict=True):
            kept = self._stays(device)
            total = sum(storage.size for storage in kept)
            for storage in kept if rate > 0 else ():
                self.watched.copy(storage, round(rate * left * storage.size / total))
        if max(rates) * left > SMALL * max(self.watched.memory().allocated, 1):
            self.watched.notes.append(
                f"{where}memory {told}. So much is counted for {left:,} more of them, "
                f"{max(rates) * left / 1e9:.2f} GB"
            )

    def rests(self, left: int | None, what: str, line: str) -> None:
        """Memory is at rest: note what the few bytes come to that still stay of each iteration."""
        drift = self.course.drift()
        if drift * (left or 0) > SMALL * self.watched.memory().allocated:
            self.watched.notes.append(
                f"{line}: memory grows by {drift:.0f} bytes with each {what}, "
                f"{drift * left / 1e9:.2f} GB in {left:,} more of them, which is not counted"
            )

    def told(self, what: str) -> str:
        """By how much memory grows, and where what stays comes from."""
        parts = []
        for device, rate in zip(("cuda", "cpu"), self.course.rate(), strict=True):
            if rate >= 1:
                kept = self._stays(device)
                more = f", and {len(kept) - 1} more" if len(kept) > 1 else ""
                of = self.watched.origins.of[kept[0]].told(kept[0]) + more if kept else "not known"
                host = " on the host" if device == "cpu" else ""
                parts.append(f"grows by {_size(rate)}{host} with each {what} ({of})")
        return ", and ".join(parts)

    def _stays(self, device: str) -> list[Storage]:
        """What stays of one iteration on "cuda" or "cpu", the largest first.

        That was allocated in it and is alive much later. Where one tensor grows instead, as in
        `kept = torch.cat([kept, new])`, nothing of an earlier iteration stays, and it is the
        largest one of the last iterations.
        """
        rises = {position for position, _ in self.course.rises}
        spans = [
            (begin, end)
            for (_, begin), (position, end) in zip(self.begun, self.begun[1:], strict=False)
            if position in rises
        ]
        if not spans:
            return []
        born = self.watched.origins.of
        alive = [one for one in born if one.alive and one.device == device and one.size]
        begin, end = spans[len(spans) // 2]
        kept = [storage for storage in alive if begin <= born[storage].number < end]
        if sum(storage.size for storage in kept) < self.course.rate()[device == "cpu"] / 2:
            last = [storage for storage in alive if born[storage].number >= spans[-1][0]]
            kept = [max(last, key=lambda storage: storage.size)] if last else []
        return sorted(kept, key=lambda storage: -storage.size)


def _size(number: float) -> str:
    return f"{number / 1e6:.1f} MB" if number >= 1e5 else f"{number / 1e3:.1f} kB"
