"""PyTorch's caching allocator for CUDA, simulated: it turns allocated into reserved bytes.

The rules are those of PyTorch's c10/cuda/CUDACachingAllocator.cpp and c10/core/AllocatorConfig.h
(torch 2.14), where the reasons for them are given.
"""

import bisect
import itertools
from collections import defaultdict
from dataclasses import replace

from vramcast.memory.blocks import (
    LARGE_SEGMENT,
    MIN_BLOCK,
    SMALL_SEGMENT,
    SMALL_SIZE,
    Block,
    Segment,
    rounded,
    segment_size,
)
from vramcast.memory.order import Order
from vramcast.memory.settings import Settings


class OutOfMemory(Exception):
    """The driver has no memory left for a segment, even after unused ones were given back."""


class CachingAllocator:
    """Takes and frees blocks under keys that the caller chooses. All sizes are in bytes.

    `capacity`: how much the driver has. `settings`: as in PYTORCH_ALLOC_CONF; they may change at
    any time. In an expandable segment, only pages at its end can be given back.

    `prompt`: whether the GPU finishes all work as soon as it gets it. If not, a block that another
    stream used (`record_stream`) stays taken as long as CUDA's order of events allows: until the
    CPU knows that the stream has passed the point where it was when the block was freed. Real GPUs
    are between these two.
    """

    def __init__(
        self, capacity: float = float("inf"), expandable: bool = False, prompt: bool = True
    ) -> None:
        self.capacity = capacity
        self.order = None if prompt else Order()
        self.settings = replace(Settings(), expandable=expandable)
        self.allocated = self.reserved = 0
        self.max_allocated = self.max_reserved = 0
        self.blocks: dict[object, Block] = {}
        self.segments: set[Segment] = set()
        self._free: dict[tuple[bool, int], list[tuple[int, int, Block]]] = defaultdict(list)
        self._growing: dict[tuple[bool, int], Segment] = {}
        # freed, and maybe still in use by other streams, up to a point of each
        self._waiting: list[tuple[Block, dict[int, int]]] = []
        self._addresses = itertools.count(0, 2**48)  # each segment has a range of its own

    def allocate(self, key: object, size: int, stream: int = 0) -> None:
        """Take a block for `size` bytes; an empty tensor takes none.

        Raises OutOfMemory if the driver has too little left.
        """
        if size == 0:
            return
        settings = self.settings
        size = rounded(size, settings.division(size))
        pool = (size <= SMALL_SIZE, stream)
        block = self._best_fit(pool, size) or self._new_block(pool, size)
        block.free = False
        rest = block.size - size
        splittable = rest > SMALL_SIZE and size < settings.max_split
        if rest >= MIN_BLOCK if pool[0] or settings.expandable else splittable:
            self._split(block, size)
        self.blocks[key] = block
        self.allocated += block.size
        self.max_allocated = max(self.max_allocated, self.allocated)

    def free(self, key: object) -> None:
        """Give a block back to its pool, once the other streams that use it are done with it."""
        block = self.blocks.pop(key, None)
        if block is None:  # of no bytes
            return
        self.allocated -= block.size
        if block.streams and self.order:
            points = {stream: self.order.point(stream) for stream in block.streams}
            self._waiting.append((block, points))
        else:
            self._return(block)

    def record_stream(self, key: object, stream: int) -> None:
        """Note that `stream` uses the block, too."""
        block = self.blocks.get(key)
        if block is not None and stream != block.segment.pool[1]:
            block.streams.add(stream)

    def record(self, event: object, stream: int) -> None:
        """Note that an event was recorded in a stream."""
        if self.order:
            self.order.record(event, stream)

    def follow(self, stream: int, event: object) -> None:
        """Note that a stream waits for an event."""
        if self.order:
            self.order.follow(stream, event)

    def synchronize(self, event: object | None = None) -> None:
        """Note that the CPU waits for an event, or for all work on the GPU."""
        if self.order is None:
            return
        self.order.wait(event)
        waiting, self._waiting = self._waiting, []
        for block, points in waiting:
            if all(self.order.done(stream, point) for stream, point in points.items()):
                self._return(block)
            else:
                self._waiting.append((block, points))

    def empty_cache(self) -> None:
        """Give all that is unused back to the driver."""
        self.synchronize()
        for entries in list(self._free.values()):
            for entry in list(entries):
                block = entry[2]
                if block.before is None and block.after is None:
                    entries.remove(entry)
                    self._release(block.segment)
                elif self._can_grow(block):
                    self._shrink(block)

    def _best_fit(self, pool: tuple[bool, int], size: int) -> Block | None:
        """The smallest free block that is large enough; of equal ones that at the lowest address.

        The last block of a segment that can grow counts as the largest of all. If segments are not
        allowed to grow any more, their blocks are passed over. A block of `max_split` or more is
        only for a request of that size, which may not be much smaller than the block.
        """
        entries, settings = self._free[pool], self.settings
        place = bisect.bisect_left(entries, (size,))
        if not settings.expandable:
            while place < len(entries) and entries[place][2].segment.expandable:
                place += 1
        elif place < len(entries) and self._can_grow(entries[place][2]):
            place = min(place + 1, len(entries) - 1)
        if place == len(entries):
            return None
        found = entries[place][0]
        if size < settings.max_split <= found:
            return None
        if size >= settings.max_split and found >= size + settings.rounding:
            return None
        return entries.pop(place)[2]

    @staticmethod
    def _can_grow(block: Block) -> bool:
        return block.segment.expandable and block.after is None

    def _new_block(self, pool: tuple[bool, int], size: int) -> Block:
        if self.settings.expandable:
            return self._grow(pool, size)
        amount = segment_size(size)
        if self.reserved + amount > self.capacity:
            self._release_unsplit(pool, size)
        self._reserve(amount)
        segment = Segment(pool, amount, expandable=False)
        segment.last = Block(segment, next(self._addresses), amount)
        self.segments.add(segment)
        return segment.last

    def _grow(self, pool: tuple[bool, int], size: int) -> Block:
        """Map pages to the end of the pool's expandable segment until `size` bytes fit there."""
        segment = self._growing.get(pool)
        last = segment.last if segment else None
        there = last.size if last and last.free else 0
        page = SMALL_SEGMENT if pool[0] else LARGE_SEGMENT
        amount = -(-(size - there) // page) * page
        self._reserve(amount)  # may give the segment back
        segment = self._growing.get(pool)
        if segment is None:
            segment = self._growing[pool] = Segment(pool, 0, expandable=True)
            self.segments.add(segment)
            segment.last = Block(segment, next(self._addresses), 0)
            last = segment.last
        else:
            last = segment.last
            if last.free:
                if last.size < there:  # its pages went back to the driver meanwhile
                    amount += there - last.size
                    self.reserved += there - last.size
                self._take_out(last)
            else:
                new = Block(segment, last.address + last.size, 0)
                new.before, last.after = last, new
                last = segment.last = new
        last.size += amount
        segment.size += amount
        return last

    def _reserve(self, amount: int) -> None:
        """Take memory from the driver; if it has too little, give back what is unused first."""
        if self.reserved + amount > self.capacity:
            self.empty_cache()
        if self.reserved + amount > self.capacity:
            raise OutOfMemory
        self.reserved += amount
        self.max_reserved = max(self.max_reserved, self.reserved)

    def _release_unsplit(self, pool: tuple[bool, int], size: int) -> None:
        """Give back some of the free blocks that are too large to be split, no more than needed.

        That is one block that is large enough, else several, the largest first. If these do not
        suffice, all unused memory is given back (`release_available_cached_blocks`).
        """
        limit = self.settings.max_split
        wanted = max(size, limit)
        entries = [
            entry
            for entry in self._free[pool]
            if entry[0] >= limit and not entry[2].segment.expandable
        ]
        enough = [entry for entry in entries if entry[0] >= wanted][:1]
        for entry in enough or reversed(entries):
            if wanted <= 0:
                break
            wanted -= entry[0]
            self._free[pool].remove(entry)
            self._release(entry[2].segment)
        if wanted > 0:
            self.empty_cache()

    def _split(self, block: Block, size: int) -> None:
        rest = Block(block.segment, block.address + size, block.size - size)
        rest.before, rest.after = block, block.after
        if block.after is not None:
            block.after.before = rest
        else:
            block.segment.last = rest
        block.after, block.size = rest, size
        self._put_in(rest)

    def _return(self, block: Block) -> None:
        """Put a block into its pool, merged with its free neighbours."""
        block.free, block.streams = True, set()
        if block.before is not None and block.before.free:
            before = block.before
            self._take_out(before)
            block.address, block.size = before.address, before.size + block.size
            block.before = before.before
            if block.before is not None:
                block.before.after = block
        if block.after is not None and block.after.free:
            after = block.after
            self._take_out(after)
            block.size += after.size
            block.after = after.after
            if block.after is not None:
                block.after.before = block
            else:
                block.segment.last = block
        self._put_in(block)

    def _put_in(self, block: Block) -> None:
        bisect.insort(self._free[block.segment.pool], (block.size, block.address, block))

    def _take_out(self, block: Block) -> None:
        entries = self._free[block.segment.pool]
        del entries[bisect.bisect_left(entries, (block.size, block.address))]

    def _release(self, segment: Segment) -> None:
        self.reserved -= segment.size
        self.segments.remove(segment)
        if segment.expandable:
            del self._growing[segment.pool]

    def _shrink(self, block: Block) -> None:
        """Unmap the free pages at the end of an expandable segment."""
        page = SMALL_SEGMENT if block.segment.pool[0] else LARGE_SEGMENT
        amount = block.size // page * page
        if not amount:
            return
        self._take_out(block)
        block.size -= amount
        block.segment.size -= amount
        self.reserved -= amount
        if block.size:
            self._put_in(block)
        else:
            block.before.after, block.segment.last = None, block.before
