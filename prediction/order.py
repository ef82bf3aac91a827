"""What the CPU knows a GPU to have done: the order that CUDA guarantees, and no times.

A stream does what it was given in that order, and streams know of each other only what events tell
(CUDA C++ Programming Guide, "Streams" and "Events"): whatever came before an event in its stream is
done before what comes after a wait for it. Each stream therefore carries a vector clock (Mattern,
"Virtual Time and Global States of Distributed Systems", 1989): of every stream, how many of its
points are sure to be behind it.
"""

from collections import defaultdict

Clock = dict[int, int]  # of each stream by its number, how many of its points are done


def _merge(clock: Clock, other: Clock) -> None:
    for stream, point in other.items():
        if clock.get(stream, 0) < point:
            clock[stream] = point


class Order:
    """Streams by their numbers, events by any key; an event that is recorded again is a new one."""

    def __init__(self) -> None:
        self._streams: defaultdict[int, Clock] = defaultdict(dict)
        self._events: dict[object, Clock] = {}
        self._known: Clock = {}  # what the CPU knows to be done

    def point(self, stream: int) -> int:
        """The number of the place in a stream to which it has been given work so far."""
        clock = self._streams[stream]
        clock[stream] = clock.get(stream, 0) + 1
        return clock[stream]

    def record(self, event: object, stream: int) -> None:
        """Put an event into a stream."""
        self.point(stream)
        self._events[event] = dict(self._streams[stream])

    def follow(self, stream: int, event: object) -> None:
        """Let a stream wait for an event; one that was never recorded is over (cudaEventQuery)."""
        _merge(self._streams[stream], self._events.get(event, {}))

    def wait(self, event: object | None = None) -> None:
        """Let the CPU wait for an event; None: for all that any stream was given."""
        clocks = self._streams.values() if event is None else [self._events.get(event, {})]
        for clock in clocks:
            _merge(self._known, clock)

    def done(self, stream: int, point: int) -> bool:
        """Whether the CPU knows a stream to have passed a point."""
        return self._known.get(stream, 0) >= point
