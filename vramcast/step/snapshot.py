"""A prediction as a memory snapshot, in the format of `torch.cuda.memory._dump_snapshot`.

pytorch.org/memory_viz and `python -m torch.cuda._memory_viz` open it. The keys are those of
`_snapshot` in PyTorch's torch/cuda/memory.py; which action has which size is in
c10/cuda/CUDACachingAllocator.cpp (`record_trace`).
"""

import pickle
from collections.abc import Callable, Iterable

from vramcast.memory.allocator import CachingAllocator
from vramcast.memory.blocks import Block, Segment
from vramcast.memory.peaks import feed
from vramcast.memory.storages import Storage
from vramcast.step.lines import Lines

PROTOCOL = 4  # the viewer reads none above it
GROWING = 2**40  # addresses for a segment that can grow
ALIGNED = 2 * 2**20
START = 2**30

Run = tuple[int, int]  # an address, and the one behind its last


class History:
    """Watches an allocator that follows a tracker's log, and writes down its history.

    The allocator's segments are 2**48 bytes apart. The viewer's numbers end at 2**53, so segments
    get other addresses here.
    """

    def __init__(self, lines: Lines, kind: Callable[[Storage], str], **options) -> None:
        """`kind` names what a storage is for; `options` are the allocator's."""
        self.allocator = CachingAllocator(**options)
        self.lines, self.kind = lines, kind
        self.trace: list[dict] = []
        self._next = START
        self._exchanges = 0  # as of the last event
        self._runs: dict[Segment, list[Run]] = {}
        self._moved: dict[Segment, int] = {}  # from the allocator's addresses to the viewer's
        self._taken: dict[Storage, tuple[Block, int]] = {}  # with the address
        self._waiting: dict[Storage, tuple[Block, int]] = {}  # freed, and used by another stream
        self._frames: dict[tuple, list[dict]] = {}

    def follow(self, event: tuple) -> None:
        """Let the allocator do what an event of the log says, and write down what it did."""
        what, storage, _ = event
        feed(self.allocator, *event)
        new = self.allocator.blocks.get(storage) if what == "allocate" else None
        if what == "free" and storage in self._taken:
            self._waiting[storage] = self._taken.pop(storage)
            self._note("free_requested", storage, *self._waiting[storage])
        for old, (block, address) in list(self._waiting.items()):
            if block.free or block is new:
                del self._waiting[old]
                self._note("free_completed", old, block, address)
        if self._exchanges != self.allocator.exchanges:
            self._segments()
        if new is not None:
            address = new.address + self._moved[new.segment]
            self._taken[storage] = new, address
            self._note("alloc", storage, new, address)

    def _segments(self) -> None:
        """Write down which memory the driver gave and got back."""
        now = {segment: runs(segment) for segment in self.allocator.segments}
        for segment, before in self._runs.items():
            action = "segment_unmap" if segment.expandable else "segment_free"
            self._note_segment(action, segment, without(before, now.get(segment, [])))
        for segment, after in now.items():
            if segment not in self._moved:
                self._moved[segment] = self._next - segment.address
                room = GROWING if segment.expandable else -(-segment.size // ALIGNED) * ALIGNED
                self._next += room
            action = "segment_map" if segment.expandable else "segment_alloc"
            self._note_segment(action, segment, without(after, self._runs.get(segment, [])))
        self._runs, self._exchanges = now, self.allocator.exchanges

    def _note(self, action: str, storage: Storage, block: Block, address: int) -> None:
        self.trace.append(
            {
                "action": action, "addr": address, "size": storage.size,
                "stream": block.segment.pool[1], "frames": self.frames(storage),
                "category": self.kind(storage),
            }
        )  # fmt: skip

    def _note_segment(self, action: str, segment: Segment, parts: list[Run]) -> None:
        # the viewer fails where there are categories and none of them is "unknown"
        for begin, end in parts:
            self.trace.append(
                {
                    "action": action, "addr": begin + self._moved[segment], "size": end - begin,
                    "stream": segment.pool[1], "frames": [], "category": "unknown",
                }
            )  # fmt: skip

    def frames(self, storage: Storage) -> list[dict]:
        """The origin of an allocation: operator and module, then the script's own lines."""
        key = (storage.op, storage.module or storage.phase, self.lines.places.get(storage, ()))
        if key not in self._frames:
            operator, module, places = key
            self._frames[key] = [
                {"name": operator, "filename": module, "line": 0},
                *(
                    {"name": name, "filename": self.lines.script, "line": line}
                    for line, name in places
                ),
            ]
        return self._frames[key]

    def snapshot(self) -> dict:
        """The segments and blocks as they are now, and their history."""
        owners = {
            block: (storage, "active_allocated") for storage, (block, _) in self._taken.items()
        }
        for storage, (block, _) in self._waiting.items():
            owners[block] = storage, "active_pending_free"
        segments = [
            self._segment(segment, run, owners)
            for segment, found in self._runs.items()
            for run in found
        ]
        return {
            "segments": sorted(segments, key=lambda segment: segment["address"]),
            "device_traces": [self.trace],
        }

    def _segment(
        self, segment: Segment, run: Run, owners: dict[Block, tuple[Storage, str]]
    ) -> dict:
        """Addresses with memory behind them; of an expandable segment, each run is one."""
        begin, end = run
        blocks = []
        for block in segment.blocks():
            if not begin <= block.address < end:
                continue
            storage, state = owners.get(block, (None, "inactive"))
            blocks.append(
                {
                    "address": block.address + self._moved[segment], "size": block.size,
                    "requested_size": storage.size if storage else 0, "state": state,
                    "frames": self.frames(storage) if storage else [],
                    "category": self.kind(storage) if storage else "unknown",
                }
            )  # fmt: skip
        active = [block for block in blocks if block["state"] != "inactive"]
        held = [block for block in active if block["state"] == "active_allocated"]
        return {
            "device": 0, "address": begin + self._moved[segment], "total_size": end - begin,
            "allocated_size": sum(block["size"] for block in held),
            "active_size": sum(block["size"] for block in active),
            "requested_size": sum(block["requested_size"] for block in active),
            "stream": segment.pool[1], "segment_type": "small" if segment.pool[0] else "large",
            "segment_pool_id": (0, 0), "is_expandable": segment.expandable,
            "frames": [], "blocks": blocks,
        }  # fmt: skip


def runs(segment: Segment) -> list[Run]:
    """The ranges of a segment's addresses that have memory behind them, by their addresses."""
    found: list[Run] = []
    for block in segment.blocks():
        if block.mapped:
            begin = found.pop()[0] if found and found[-1][1] == block.address else block.address
            found.append((begin, block.address + block.size))
    return found


def without(some: list[Run], others: list[Run]) -> list[Run]:
    """The parts of some ranges that are in none of the others; both are sorted."""
    found = []
    for begin, end in some:
        for other, its_end in others:
            if begin < other < end:
                found.append((begin, other))
            if other < end:
                begin = max(begin, its_end)
        if begin < end:
            found.append((begin, end))
    return found


def take(events: Iterable[tuple], lines: Lines, kind: Callable[[Storage], str], **options) -> bytes:
    """The file's content after a tracker's whole log; `options` are the allocator's."""
    history = History(lines, kind, **options)
    for event in events:
        history.follow(event)
    return pickle.dumps(history.snapshot(), protocol=PROTOCOL)
