"""The caching allocators of all GPUs that a script uses; all follow one log of storages."""

from vramcast.memory import peaks
from vramcast.memory.allocator import CachingAllocator
from vramcast.memory.storages import Storage


class Allocators(dict):
    """The allocator of each GPU by the GPU's number, made when it is first needed."""

    def __init__(self, **options) -> None:
        """`options` are those of each allocator."""
        super().__init__()
        self.options = options
        self[0] = CachingAllocator(**options)

    def __missing__(self, gpu: int) -> CachingAllocator:
        made = self[gpu] = CachingAllocator(**self.options)
        # one order of events, since streams of several GPUs may wait for each other
        made.settings, made.order = self[0].settings, self[0].order
        return made

    def feed(self, what: str, storage: Storage | None, other: object) -> None:
        """Let the allocator of a storage, or all, do what one event of the log says."""
        if storage is None:
            for allocator in self.values():
                peaks.feed(allocator, what, storage, other)
        elif storage.device == "cuda":
            peaks.feed(self[storage.gpu], what, storage, other)

    def used(self) -> list[int]:
        """The GPUs that had memory at some time; the first one if there is none."""
        return sorted(gpu for gpu in self if self[gpu].max_reserved) or [0]

    def fullest(self) -> int:
        """The GPU that reserves most."""
        return max(self.used(), key=lambda gpu: self[gpu].max_reserved)

    def part(self, events: list[tuple], gpu: int) -> list[tuple]:
        """The part of their log that is about a GPU, and about the host."""
        if self.used() == [gpu]:
            return events
        return [
            event
            for event in events
            if event[1] is None or event[1].device == "cpu" or event[1].gpu == gpu
        ]
