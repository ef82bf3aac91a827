"""PyTorch's caching allocator for pinned host memory, which the GPU can read and write by itself.

The rules are those of aten/src/ATen/core/CachingHostAllocator.h: a block's size is a power of two,
blocks are neither split nor given back, and a free block serves the next request of its size. (In
PyTorch it is free once the GPU is done with it. Here, the GPU is done at once.)
"""

from collections import Counter


class PinnedPool:
    """Counts the bytes of pinned host memory, in use or not."""

    def __init__(self) -> None:
        self.reserved = 0
        self._free: Counter[int] = Counter()  # blocks by their size

    @staticmethod
    def rounded(size: int) -> int:
        """The size of the block for `size` bytes, at least 1 (`PowerOf2Ceil`)."""
        return 1 << (size - 1).bit_length()

    def allocate(self, size: int) -> None:
        """Take a block for `size` bytes; nothing for 0 bytes."""
        if not size:
            return
        size = self.rounded(size)
        if self._free[size]:
            self._free[size] -= 1
        else:
            self.reserved += size

    def free(self, size: int) -> None:
        """Give back the block that was taken for `size` bytes."""
        if size:
            self._free[self.rounded(size)] += 1
