"""Which work of a GPU is certainly done, judged by the order that CUDA guarantees alone.

A stream does its work in the order in which it was given. Between streams, only events give an
order: all that came before an event in its stream is done before anything that comes after a wait
for it (CUDA C++ Programming Guide, "Streams" and "Events"). So each stream has a vector clock
(Mattern, "Virtual Time and Global States of Distributed Systems", 1989): for every other stream,
how many of its points are certainly done.
"""

from collections import defaultdict

Clock = dict[int, int]  # of each stream by its number, how many of its points are done


def _merge(clock: Clock, other: Clock) -> None:
    for stream, point in other.items():
        if clock.get(stream, 0) < point:
            clock[stream] = point


class Order:
    """Streams by number, events by any key. An event that is recorded again is a new event."""

    def __init__(self) -> None:
        self._streams: defaultdict[int, Clock] = defaultdict(dict)
        self._events: dict[object, Clock] = {}
        self._known: Clock = {}  # what the CPU knows to be done

    def point(self, stream: int) -> int:
        """The number of the current place in a stream: after all work that it was given so far."""
        clock = self._streams[stream]
        clock[stream] = clock.get(stream, 0) + 1
        return clock[stream]

    def record(self, event: object, stream: int) -> None:
        """Record an event in a stream."""
        self.point(stream)
        self._events[event] = dict(self._streams[stream])

    def follow(self, stream: int, event: object) -> None:
        """Let a stream wait for an event; one that was never recorded is done (cudaEventQuery)."""
        _merge(self._streams[stream], self._events.get(event, {}))

    def wait(self, event: object | None = None) -> None:
        """Let the CPU wait for an event; None: for all work of all streams."""
        clocks = self._streams.values() if event is None else [self._events.get(event, {})]
        for clock in clocks:
            _merge(self._known, clock)

    def done(self, stream: int, point: int) -> bool:
        """Whether the CPU knows that a stream has passed a point."""
        return self._known.get(stream, 0) >= point
