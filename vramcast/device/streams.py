"""Streams and events as a script finds them, in `torch.cuda`, `torch` and `torch.accelerator`."""

import contextlib

import torch

from vramcast.device.devices import CUDA
from vramcast.memory.tracker import Tracker


class Stream:
    """In the place of `torch.cuda.Stream` and `torch.Stream`; number 0 is the default stream.

    `device` and `priority` make no difference: there is one GPU, and nothing is timed.
    """

    tracker: Tracker
    count = 0
    device, priority = CUDA, 0
    device_index, device_type = 0, 1  # 1: CUDA (c10/core/DeviceType.h)

    def __init__(self, device=None, priority: int = 0, **kwargs) -> None:
        Stream.count += 1
        self.number, self.device, self.priority = Stream.count, CUDA, priority
        self._outer: list[int] = []

    @classmethod
    def numbered(cls, number: int) -> "Stream":
        """Another object for a stream that there is."""
        stream = cls.__new__(cls)
        stream.number, stream.device, stream.priority, stream._outer = number, CUDA, 0, []
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
        self._outer.append(self.tracker.stream)
        self.tracker.stream = self.number
        return self

    def __exit__(self, *exception) -> None:
        self.tracker.stream = self._outer.pop()

    def synchronize(self) -> None:
        self.record_event().synchronize()

    def record_event(self, event=None):
        event = event or Event()
        event.record(self)
        return event

    def wait_event(self, event) -> None:
        self.tracker.follow(self.number, event)

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
        Stream.tracker.record(self, _number(stream))

    def synchronize(self) -> None:
        Stream.tracker.wait(self)

    def wait(self, stream=None) -> None:
        Stream.tracker.follow(_number(stream), self)

    def query(self) -> bool:
        return True

    def elapsed_time(self, end_event) -> float:
        return 1.0  # milliseconds; nothing is timed


def _number(stream: Stream | None) -> int:
    return Stream.tracker.stream if stream is None else stream.number


def take_all(stand_in: type, real: type) -> None:
    """Let a class have all methods of the one that it stands in for; what it lacks does nothing."""
    for name in dir(real):
        if not name.startswith("_") and not hasattr(stand_in, name):
            setattr(stand_in, name, lambda *args, **kwargs: None)


def context(stream: Stream | None) -> contextlib.AbstractContextManager:
    """In the place of `torch.cuda.stream`, for which None changes nothing."""
    return contextlib.nullcontext() if stream is None else stream


def install(tracker: Tracker) -> None:
    """Let a script find these streams and events."""
    Stream.tracker = tracker

    def current_stream(device=None) -> Stream:
        return Stream.numbered(tracker.stream)

    def default_stream(device=None) -> Stream:
        return Stream.numbered(0)

    def set_stream(stream) -> None:
        tracker.stream = stream.number

    def synchronize(device=None) -> None:
        tracker.wait(None)

    for name in ("Stream", "Event"):
        for module in (torch, torch.cuda):
            take_all(globals()[name], getattr(module, name))
    for module in (torch, torch.cuda):
        module.Stream, module.Event = Stream, Event
    torch.cuda.stream = torch.cuda.StreamContext = context
    torch.cuda.default_stream, torch.cuda.ExternalStream = default_stream, ExternalStream
    for module in (torch.cuda, torch.accelerator):
        module.current_stream, module.set_stream = current_stream, set_stream
        module.synchronize = synchronize
