"""The peaks in a tracker's log, and what they consist of."""

from collections.abc import Iterable, Iterator

from vramcast.kinds import KINDS
from vramcast.memory.allocator import CachingAllocator, OutOfMemory
from vramcast.memory.pinned import PinnedPool
from vramcast.memory.storages import Storage
from vramcast.memory.tracker import Tracker


def feed(allocator: CachingAllocator, what: str, storage: Storage | None, other: object) -> None:
    """Let an allocator do what one event of the log says. Raises OutOfMemory as `allocate`."""
    if storage is not None and storage.device != "cuda":
        return
    if what == "allocate":
        allocator.allocate(storage, storage.size, other)
    elif what == "free":
        allocator.free(storage)
    elif what == "use":
        allocator.record_stream(storage, other)
    elif what == "record":
        allocator.record(*other)
    elif what == "follow":
        allocator.follow(*other)
    elif what == "wait":
        allocator.synchronize(other)
    elif what == "empty":
        allocator.empty_cache()
    elif what == "settings":
        allocator.settings = other


def replay(events: Iterable[tuple], **options) -> CachingAllocator | None:
    """An allocator with these options after the whole log; None if it ran out of memory."""
    allocator = CachingAllocator(**options)
    try:
        for event in events:
            feed(allocator, *event)
    except OutOfMemory:
        return None
    return allocator


def changes(events: Iterable[tuple], device: str) -> Iterator[int]:
    """By how many bytes each event changes the memory in use on a device.

    On the host, pinned memory is never given back (pinned.py).
    """
    pool = PinnedPool()
    for what, storage, _ in events:
        if what not in ("allocate", "free") or not size_on(storage, device):
            yield 0
        elif storage.pinned:
            before = pool.reserved
            (pool.allocate if what == "allocate" else pool.free)(storage.size)
            yield pool.reserved - before
        else:
            yield size_on(storage, device) * (1 if what == "allocate" else -1)


def size_on(storage: Storage, device: str) -> int:
    """The bytes that a storage takes on a device; on the GPU, those of its block."""
    if storage.device != device:
        return 0
    return storage.block if device == "cuda" else storage.size


def peak(
    events: list[tuple], device: str, since: int = 0
) -> tuple[int, list[Storage], Storage | None]:
    """The most bytes allocated on a device, the storages alive then, and the newest of them.

    `since`: the event at which the search begins.
    """
    now = most = 0
    place = -1
    for number, change in enumerate(changes(events, device)):
        now += change
        if now > most and number >= since:
            most, place = now, number
    alive = _alive(events[: place + 1], device)
    return most, alive, events[place][1] if alive else None


def after_last_step(events: list[tuple]) -> list[Storage]:
    """The storages on GPUs that were alive after the last optimizer step; none without one."""
    steps = [at for at, (what, _, other) in enumerate(events) if (what, other) == ("mark", "step")]
    return _alive(events[: steps[-1]], "cuda") if steps else []


def _alive(events: list[tuple], device: str) -> list[Storage]:
    """The storages on a device that are alive after these events, the oldest first."""
    alive: dict[Storage, None] = {}
    for what, storage, _ in events:
        if what == "allocate" and size_on(storage, device):
            alive[storage] = None
        elif what == "free":
            alive.pop(storage, None)
    return list(alive)


def training_peak(events: list[tuple], device: str) -> int:
    """The most bytes allocated on a device after the first optimizer step."""
    now = most = 0
    training = False
    for (what, _, other), change in zip(events, changes(events, device), strict=True):
        now += change
        training = training or (what, other) == ("mark", "step")
        if training:
            most = max(most, now)
    return most


def breakdown(tracker: Tracker, alive: Iterable[Storage]) -> dict[str, int]:
    """Bytes on the GPU by kind, each block whole: with what is lost to rounding in it."""
    sums = dict.fromkeys(KINDS, 0)
    for storage in alive:
        sums[tracker.kind(storage)] += size_on(storage, "cuda")
    return sums
