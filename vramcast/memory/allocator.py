"""PyTorch's caching allocator for CUDA, simulated: it turns allocated into reserved bytes.

The rules are those of PyTorch's c10/cuda/CUDACachingAllocator.cpp and c10/core/AllocatorConfig.h
(torch 2.14), where the reasons for them are given.
"""

import bisect
import itertools
from collections import defaultdict
from dataclasses import replace

from vramcast.memory.blocks import (
    MIN_BLOCK,
    SMALL_SIZE,
    Block,
    Segment,
    multiple,
    rounded,
    segment_size,
)
from vramcast.memory.order import Order
from vramcast.memory.settings import Settings

ADDRESSES = 2**47  # of an expandable segment


class OutOfMemory(Exception):
    """The driver has no memory left for a segment, even after unused ones were given back."""


class CachingAllocator:
    """Takes and frees blocks under keys that the caller chooses. All sizes are in bytes.

    `capacity`: how much the driver has. `settings`: as in PYTORCH_ALLOC_CONF; they may change at
    any time.

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
        self._peaks = [0, 0]  # allocated and reserved, since `reset_peaks`
        self.exchanges = 0  # how often memory came from the driver, or went back
        self.blocks: dict[object, Block] = {}
        self.segments: set[Segment] = set()
        self._free: dict[tuple[bool, int], list[tuple[int, int, Block]]] = defaultdict(list)
        # addresses of expandable segments without memory, by pool and address
        self._holes: dict[tuple[bool, int], list[tuple[int, Block]]] = defaultdict(list)
        # freed, and maybe still in use by other streams, up to a point of each
        self._waiting: list[tuple[Block, dict[int, int]]] = []
        self._addresses = itertools.count(0, 2 * ADDRESSES)  # each segment has a range of its own

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
        self._peaks[0] = max(self._peaks[0], self.allocated)

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

    def reset_peaks(self) -> None:
        """Let `statistics` tell peaks from now on; `max_allocated` and `max_reserved` stay."""
        self._peaks = [self.allocated, self.reserved]

    def statistics(self) -> dict[str, int]:
        """Bytes, by their names in `torch.cuda.memory_stats`."""
        waiting = sum(block.size for block, _ in self._waiting)
        return {
            "allocated_bytes.all.current": self.allocated,
            "allocated_bytes.all.peak": self._peaks[0],
            "reserved_bytes.all.current": self.reserved,
            "reserved_bytes.all.peak": self._peaks[1],
            "active_bytes.all.current": self.allocated + waiting,
            "active_bytes.all.peak": max(self._peaks[0], self.allocated + waiting),
            "num_alloc_retries": 0,
            "num_ooms": 0,
        }

    def empty_cache(self) -> None:
        """Give all that is unused back to the driver, but for private pools (streams below 0)."""
        self.synchronize()
        for (_, stream), entries in list(self._free.items()):
            if stream < 0:
                continue
            for _, _, block in list(entries):
                if block.segment.expandable:
                    self._unmap(block)
                elif block.before is None and block.after is None:
                    self._take_out(block)
                    self._release(block.segment)

    def _best_fit(self, pool: tuple[bool, int], size: int) -> Block | None:
        """The smallest free block that is large enough; of equal ones that at the lowest address.

        A block of an expandable segment counts with the addresses without memory that follow it. If
        segments are not allowed to grow any more, their blocks are passed over. A block of
        `max_split` or more is only for a request of that size, which may not be much smaller than
        the block.
        """
        entries, settings = self._free[pool], self.settings
        place = bisect.bisect_left(entries, (size,))
        if not settings.expandable:
            while place < len(entries) and entries[place][2].segment.expandable:
                place += 1
        else:
            while place + 1 < len(entries) and entries[place][2].segment.expandable:
                if _growable(entries[place + 1][2]) >= _growable(entries[place][2]):
                    break
                place += 1
        if place == len(entries):
            return None
        found = entries[place][0]
        if size < settings.max_split <= found:
            return None
        if size >= settings.max_split and found >= size + settings.rounding:
            return None
        return entries.pop(place)[2]

    def _new_block(self, pool: tuple[bool, int], size: int) -> Block:
        if self.settings.expandable:
            return self._grow(pool, size)
        amount = segment_size(size)
        if self.reserved + amount > self.capacity:
            self._release_unsplit(pool, size)
        self._reserve(amount)
        segment = Segment(pool, next(self._addresses), amount, expandable=False)
        segment.first = Block(segment, segment.address, amount)
        self.segments.add(segment)
        return segment.first

    def _grow(self, pool: tuple[bool, int], size: int) -> Block:
        """Map pages of an expandable segment, so that it has a free block of `size` bytes."""
        block = self._place(pool, size)
        if self.reserved + _missing(block, size) > self.capacity:
            self.empty_cache()  # which may take the place away, too
            block = self._place(pool, size)
        if self.reserved + _missing(block, size) > self.capacity:
            raise OutOfMemory
        if not block.mapped:
            self._map(block, min(size, block.size))
        while block.size < size:
            block = self._map(block.after, min(size - block.size, block.after.size))
        self._take_out(block)
        return block

    def _place(self, pool: tuple[bool, int], size: int) -> Block:
        """Where `size` bytes can be mapped, at the lowest address: a free block, or a hole.

        In a row follow holes and free blocks that have enough addresses together
        (`find_expandable_block`). The addresses of a segment do not end here; in PyTorch, they do
        at nine eighths of the GPU's memory, after which there is another segment.
        """
        for _, hole in self._holes[pool]:
            first = hole.before if hole.before is not None and hole.before.free else hole
            found, block = 0, first
            while found < size and block is not None and block.free:
                found, block = found + block.size, block.after
            if found >= size:
                return first
        segment = Segment(pool, next(self._addresses), 0, expandable=True)
        segment.first = Block(segment, segment.address, ADDRESSES)
        segment.first.mapped = False
        self.segments.add(segment)
        self._holes[pool].append((segment.address, segment.first))
        return segment.first

    def _map(self, hole: Block, size: int) -> Block:
        """Put memory behind the first `size` bytes of a hole, or some more; the free block then."""
        segment = hole.segment
        amount = multiple(size, segment.page)
        self._holes[segment.pool].remove((hole.address, hole))
        if amount < hole.size:
            rest = self._cut(hole, amount)
            rest.mapped = False
            bisect.insort(self._holes[segment.pool], (rest.address, rest))
        hole.mapped = True
        segment.size += amount
        self._took(amount)
        self._return(hole)
        return hole

    def _unmap(self, block: Block) -> None:
        """Give the whole pages of a free block back to the driver; a hole stays in their place."""
        segment = block.segment
        begin = segment.address + multiple(block.address - segment.address, segment.page)
        amount = (block.address + block.size - begin) // segment.page * segment.page
        if amount <= 0:
            return
        self._take_out(block)
        hole = block
        if begin > block.address:
            hole = self._cut(block, begin - block.address)
            self._put_in(block)
        if amount < hole.size:
            self._put_in(self._cut(hole, amount))
        hole.mapped = False
        segment.size -= amount
        self._gave(amount)
        for other in (hole.before, hole.after):
            if other is not None and not other.mapped:
                self._holes[segment.pool].remove((other.address, other))
                _join(hole, other)
        if segment.size:
            bisect.insort(self._holes[segment.pool], (hole.address, hole))
        else:
            self.segments.remove(segment)

    def _reserve(self, amount: int) -> None:
        """Take memory from the driver; if it has too little, give back what is unused first."""
        if self.reserved + amount > self.capacity:
            self.empty_cache()
        if self.reserved + amount > self.capacity:
            raise OutOfMemory
        self._took(amount)

    def _took(self, amount: int) -> None:
        self.exchanges += 1
        self.reserved += amount
        self.max_reserved = max(self.max_reserved, self.reserved)
        self._peaks[1] = max(self._peaks[1], self.reserved)

    def _gave(self, amount: int) -> None:
        self.exchanges += 1
        self.reserved -= amount

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
        self._put_in(self._cut(block, size))

    @staticmethod
    def _cut(block: Block, size: int) -> Block:
        """Shorten a block to `size` bytes; the rest, a block of its own."""
        rest = Block(block.segment, block.address + size, block.size - size)
        rest.before, rest.after = block, block.after
        if block.after is not None:
            block.after.before = rest
        block.after, block.size = rest, size
        return rest

    def _return(self, block: Block) -> None:
        """Put a block into its pool, merged with its free neighbours."""
        block.free, block.streams = True, set()
        for other in (block.before, block.after):
            if other is not None and other.free and other.mapped:
                self._take_out(other)
                _join(block, other)
        self._put_in(block)

    def _put_in(self, block: Block) -> None:
        bisect.insort(self._free[block.segment.pool], (block.size, block.address, block))

    def _take_out(self, block: Block) -> None:
        entries = self._free[block.segment.pool]
        del entries[bisect.bisect_left(entries, (block.size, block.address))]

    def _release(self, segment: Segment) -> None:
        self._gave(segment.size)
        self.segments.remove(segment)


def _join(block: Block, other: Block) -> None:
    """Let a block take a neighbour's place, too."""
    if other is block.before:
        block.address, block.before = other.address, other.before
        if block.before is not None:
            block.before.after = block
        else:
            block.segment.first = block
    else:
        block.after = other.after
        if block.after is not None:
            block.after.before = block
    block.size += other.size


def _growable(block: Block) -> int:
    """A free block's size with the addresses that follow it and have no memory."""
    hole = block.after is not None and not block.after.mapped
    return block.size + (block.after.size if hole else 0)


def _missing(block: Block, size: int) -> int:
    """How many bytes have to be mapped, from this block on, for `size` bytes in a row."""
    amount = 0
    while size > 0:
        mapped = block.size if block.mapped else min(multiple(size, block.segment.page), block.size)
        amount += 0 if block.mapped else mapped
        size, block = size - mapped, block.after
    return amount
