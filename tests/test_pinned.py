"""The allocator of pinned host memory: its source's rules, worked by hand."""

import pytest

from vramcast.memory.pinned import PinnedPool


@pytest.mark.parametrize(("size", "block"), [(0, 0), (1, 1), (5, 8), (2**20, 2**20), (6453, 8192)])
def test_blocks_are_powers_of_two(size, block):
    pool = PinnedPool()
    pool.allocate(size)
    assert pool.reserved == block


def test_a_freed_block_serves_its_own_size_alone():
    pool = PinnedPool()
    pool.allocate(5)
    pool.free(5)
    pool.allocate(7)
    assert pool.reserved == 8
    pool.free(7)
    pool.allocate(3)  # blocks are not split
    assert pool.reserved == 8 + 4
    for _ in range(2):  # one of 8 is free
        pool.allocate(8)
    assert pool.reserved == 8 + 4 + 8
