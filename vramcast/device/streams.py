"""Streams and events as a script finds them, in `torch.cuda`, `torch` and `torch.accelerator`."""

import functools

import torch

from vramcast.device.devices import CUDA, GPUS, Places
from vramcast.memory.storages import STREAMS


class Stream:
    """In the place of `torch.cuda.Stream` and `torch.Stream`, each with a number of its own.

    Those of a GPU begin with its default stream (`STREAMS`). `priority` makes no difference:
    nothing is timed.
    """

    places: Places
    count = 0
    priority = 0
    device_type = 1  # CUDA (c10/core/DeviceType.h)

    def __init__(self, device=None, priority: int = 0, **kwargs) -> None:
        Stream.count += 1
        gpu = self.places.index(device)
        self._begin(gpu, gpu * STREAMS + Stream.count, priority)

    def _begin(self, gpu: int, number: int, priority: int = 0) -> None:
        self.device_index, self.device = gpu, GPUS[gpu]
        self.number, self.priority = number, priority
        self._outer: list[tuple[int, int]] = []  # the current GPU, and this one's stream

    @classmethod
    def numbered(cls, number: int) -> "Stream":
        """Another object for a stream that there is; for a private pool's (below 0), here."""
        stream = cls.__new__(cls)
        stream._begin(number // STREAMS if number >= 0 else cls.places.index(), number)
        return stream

    @staticmethod
    def priority_range() -> tuple[int, int]:
        """The least and the greatest priority, as CUDA has them."""
        return 0, -5

    @property
    def stream_id(self) -> int:
        """A number of its own, for which FSDP2 asks since 2.15."""
        return self.number

    cuda_stream = native_handle = stream_id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and self.number == other.number

    def __hash__(self) -> int:
        return hash(self.number)

    def __enter__(self) -> "Stream":
        tracker = self.places.tracker
        self._outer.append((tracker.gpu, tracker.streams[self.device_index]))
        self.choose()
        return self

    def __exit__(self, *exception) -> None:
        gpu, self.places.tracker.streams[self.device_index] = self._outer.pop()
        self.places.choose(gpu)

    def choose(self) -> None:
        """Make it the current stream of its GPU, and that the current GPU (`_cuda_setStream`)."""
        self.places.tracker.streams[self.device_index] = self.number
        self.places.choose(self.device_index)

    def synchronize(self) -> None:
        self.record_event().synchronize()

    def record_event(self, event=None):
        event = event or Event()
        event.record(self)
        return event

    def wait_event(self, event) -> None:
        self.places.tracker.follow(self.number, event)

    def wait_stream(self, stream) -> None:
        self.wait_event(stream.record_event())

    def query(self) -> bool:
        return True

    def is_capturing(self) -> bool:
        return False


class ExternalStream(Stream):
    """In the place of `torch.cuda.ExternalStream`: another library's, by its address."""

    def __init__(self, stream_ptr: int, device=None, **kwargs) -> None:
        super().__init__()


class Event:
    """In the place of `torch.cuda.Event` and `torch.Event`: a point in a stream."""

    device, event_id, cuda_event = CUDA, 0, 0

    def __init__(self, *args, **kwargs) -> None:
        pass

    def record(self, stream=None) -> None:
        Stream.places.tracker.record(self, _number(stream))

    def synchronize(self) -> None:
        Stream.places.tracker.wait(self)

    def wait(self, stream=None) -> None:
        Stream.places.tracker.follow(_number(stream), self)

    def query(self) -> bool:
        return True

    def elapsed_time(self, end_event) -> float:
        return 1.0  # milliseconds; nothing is timed


def _number(stream: Stream | None) -> int:
    return Stream.places.tracker.stream if stream is None else stream.number


def take_all(stand_in: type, real: type) -> None:
    """Let a class have all methods of the one that it stands in for; what it lacks does nothing."""
    for name in dir(real):
        if not name.startswith("_") and not hasattr(stand_in, name):
            setattr(stand_in, name, lambda *args, **kwargs: None)


class Context:
    """In the place of `torch.cuda.stream` and `StreamContext`; no stream changes nothing."""

    def __init__(self, stream: Stream | None) -> None:
        self.stream = stream

    def __enter__(self) -> Stream | None:
        return None if self.stream is None else self.stream.__enter__()

    def __exit__(self, *exception) -> None:
        if self.stream is not None:
            self.stream.__exit__(*exception)


def install(places: Places) -> None:
    """Let a script find these streams and events."""
    tracker, Stream.places = places.tracker, places

    def current_stream(device=None) -> Stream:
        return Stream.numbered(tracker.streams[places.index(device)])

    def default_stream(device=None) -> Stream:
        return Stream.numbered(places.index(device) * STREAMS)

    def set_stream(stream) -> None:
        stream.choose()

    def synchronize(device=None) -> None:
        if not tracker.others:
            tracker.wait(None)
            return
        first = places.index(device) * STREAMS
        for number in range(first, first + Stream.count + 1):
            Stream.numbered(number).synchronize()

    for name in ("Stream", "Event"):
        for module in (torch, torch.cuda):
            take_all(globals()[name], getattr(module, name))
    for module in (torch, torch.cuda):
        module.Stream, module.Event = Stream, Event
    torch.cuda.stream = torch.cuda.StreamContext = Context
    torch.cuda.default_stream, torch.cuda.ExternalStream = default_stream, ExternalStream
    for function in (current_stream, set_stream, synchronize):
        setattr(torch.cuda, function.__name__, function)
        # another object: Dynamo has a table of functions, in which each is once
        setattr(torch.accelerator, function.__name__, functools.partial(function))
