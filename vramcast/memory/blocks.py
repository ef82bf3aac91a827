"""Blocks and segments of PyTorch's caching allocator, and how large they are.

The rules are those of PyTorch's c10/cuda/CUDACachingAllocator.cpp and c10/core/AllocatorConfig.h
(torch 2.14); the comments name the constants as there.
"""

from collections.abc import Iterator

MIN_BLOCK = 512  # bytes; kMinBlockSize: every size is rounded up to a multiple
SMALL_SIZE = 2**20  # kSmallSize: the largest that goes to the pool of small blocks
SMALL_SEGMENT = 2 * 2**20  # kSmallBuffer: what that pool asks the driver for
MIN_LARGE = 10 * 2**20  # kMinLargeAlloc: from here on, a segment of the block's own size
LARGE_SEGMENT = 20 * 2**20  # kLargeBuffer: the segment of blocks between the two
ROUND_LARGE = 2 * 2**20  # kRoundLarge: such an own size is rounded up to a multiple


class Block:
    """A piece of a segment: in use, free, or (in an expandable one) without memory behind it."""

    __slots__ = ("address", "after", "before", "free", "mapped", "segment", "size", "streams")

    def __init__(self, segment: "Segment", address: int, size: int) -> None:
        self.segment, self.address, self.size = segment, address, size
        self.free = self.mapped = True
        self.before: Block | None = None  # its neighbours in the segment
        self.after: Block | None = None
        self.streams: set[int] = set()  # other streams that use it


class Segment:
    """Memory from the driver. It belongs to one pool of one stream, and so do all of its blocks.

    An expandable segment is a range of addresses. Its memory comes and goes by pages (20 MiB; 2 MiB
    for small blocks), and `size` is what it has of it.
    """

    __slots__ = ("address", "expandable", "first", "pool", "size")

    def __init__(self, pool: tuple[bool, int], address: int, size: int, expandable: bool) -> None:
        self.pool, self.address, self.size, self.expandable = pool, address, size, expandable
        self.first: Block | None = None

    @property
    def page(self) -> int:
        """Bytes of a page, if it is expandable."""
        return SMALL_SEGMENT if self.pool[0] else LARGE_SEGMENT

    def blocks(self) -> Iterator[Block]:
        """Its blocks by their addresses."""
        block = self.first
        while block is not None:
            yield block
            block = block.after


def multiple(number: int, of: int) -> int:
    """`number`, rounded up to a multiple."""
    return -(-number // of) * of


def rounded(size: int, divisions: int = 0) -> int:
    """The size in bytes of the block for a tensor of `size` bytes.

    `divisions`: how many sizes there are from one power of two to the next; 0 or 1 for multiples
    of 512 bytes (`roundup_power2_next_division`).
    """
    if divisions > 1 and size > MIN_BLOCK * divisions:
        step = (1 << (size.bit_length() - 1)) // divisions
        return multiple(size, step)
    return max(MIN_BLOCK, multiple(size, MIN_BLOCK))


def segment_size(size: int) -> int:
    """How many bytes are asked of the driver if no free block can hold `size` bytes."""
    if size <= SMALL_SIZE:
        return SMALL_SEGMENT
    if size < MIN_LARGE:
        return LARGE_SEGMENT
    return multiple(size, ROUND_LARGE)
