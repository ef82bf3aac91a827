"""PyTorch's caching allocator for pinned host memory, which the GPU can read and write by itself.

Its rules are in aten/src/ATen/core/CachingHostAllocator.h: a block's size is a power of two, blocks
are neither split nor given back, and a freed one serves the next request of its size. (There, that
waits until the GPU has done with it; here, the GPU is taken to keep up.)
"""

from collections import Counter


class PinnedPool:
    """Bytes of host memory that are pinned, in use or not."""

    def __init__(self) -> None:
        self.reserved = 0
        self._free: Counter[int] = Counter()  # blocks by their size

    @staticmethod
    def rounded(size: int) -> int:
        """The bytes of the block for `size` bytes, which are at least one (`PowerOf2Ceil`)."""
        return 1 << (size - 1).bit_length()

    def allocate(self, size: int) -> None:
        """Take a block for `size` bytes; none bytes take none."""
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
