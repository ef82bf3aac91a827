"""Blocks and segments of PyTorch's caching allocator, and how large they are.

The rules are those of PyTorch's c10/cuda/CUDACachingAllocator.cpp and c10/core/AllocatorConfig.h
(torch 2.14); the comments name the constants as there.
"""

MIN_BLOCK = 512  # bytes; kMinBlockSize: every size is rounded up to a multiple
SMALL_SIZE = 2**20  # kSmallSize: the largest that goes to the pool of small blocks
SMALL_SEGMENT = 2 * 2**20  # kSmallBuffer: what that pool asks the driver for
MIN_LARGE = 10 * 2**20  # kMinLargeAlloc: from here on, a segment of the block's own size
LARGE_SEGMENT = 20 * 2**20  # kLargeBuffer: the segment of blocks between the two
ROUND_LARGE = 2 * 2**20  # kRoundLarge: such an own size is rounded up to a multiple


class Block:
    """A piece of a segment, in use or free."""

    __slots__ = ("address", "after", "before", "free", "segment", "size", "streams")

    def __init__(self, segment: "Segment", address: int, size: int) -> None:
        self.segment, self.address, self.size = segment, address, size
        self.free = True
        self.before: Block | None = None  # its neighbours in the segment
        self.after: Block | None = None
        self.streams: set[int] = set()  # other streams that use it


class Segment:
    """Memory from the driver. It belongs to one pool of one stream, and so do all of its blocks."""

    __slots__ = ("expandable", "last", "pool", "size")

    def __init__(self, pool: tuple[bool, int], size: int, expandable: bool) -> None:
        self.pool, self.size, self.expandable = pool, size, expandable
        self.last: Block | None = None


def rounded(size: int, divisions: int = 0) -> int:
    """The size in bytes of the block for a tensor of `size` bytes.

    `divisions`: how many sizes there are from one power of two to the next; 0 or 1 for multiples
    of 512 bytes (`roundup_power2_next_division`).
    """
    if divisions > 1 and size > MIN_BLOCK * divisions:
        step = (1 << (size.bit_length() - 1)) // divisions
        return -(-size // step) * step
    return max(MIN_BLOCK, -(-size // MIN_BLOCK) * MIN_BLOCK)


def segment_size(size: int) -> int:
    """How many bytes are asked of the driver if no free block can hold `size` bytes."""
    if size <= SMALL_SIZE:
        return SMALL_SEGMENT
    if size < MIN_LARGE:
        return LARGE_SEGMENT
    return -(-size // ROUND_LARGE) * ROUND_LARGE
