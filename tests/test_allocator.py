"""The simulated caching allocator: its sources' rules, worked by hand."""

import itertools
import random

import hypothesis
import pytest
from hypothesis import strategies

from vramcast.memory.allocator import CachingAllocator, OutOfMemory

MIB = 2**20


@pytest.mark.parametrize(
    ("size", "allocated", "reserved"),
    [
        (1, 512, 2 * MIB),
        (512, 512, 2 * MIB),
        (513, 1024, 2 * MIB),
        (MIB - 511, MIB, 2 * MIB),
        (MIB, MIB, 2 * MIB),
        (MIB + 1, MIB + 512, 20 * MIB),
        (10 * MIB - 512, 10 * MIB - 512, 20 * MIB),
        (10 * MIB - 511, 10 * MIB, 10 * MIB),
        (10 * MIB, 10 * MIB, 10 * MIB),
        (10 * MIB + 1, 10 * MIB + 512, 12 * MIB),
        (11 * MIB - 512, 11 * MIB - 512, 12 * MIB),
        (11 * MIB, 12 * MIB, 12 * MIB),  # a rest of 1 MiB stays with the block
    ],
)
def test_rounding_and_segments(size, allocated, reserved):
    allocator = CachingAllocator()
    allocator.allocate("a", size)
    assert allocator.reserved == reserved
    assert allocator.allocated == allocated


@pytest.mark.parametrize(
    ("gap", "size", "taken", "left"),
    [
        (2048, 1024, 1024, 1024),
        (2048, 1536, 1536, 512),  # kMinBlockSize: as little as that is split off
        (2048, 2048, 2048, 0),
        (5 * MIB, 3 * MIB, 3 * MIB, 2 * MIB),
        (5 * MIB, 4 * MIB - 512, 4 * MIB - 512, MIB + 512),
        (5 * MIB, 4 * MIB, 5 * MIB, 0),  # kSmallSize is not: the rest has to be larger
    ],
)
def test_what_is_split_off_a_block(gap, size, taken, left):
    """`should_split`, of a free block between two that are in use."""
    allocator = CachingAllocator()
    for key, many in (("before", gap), ("gap", gap), ("after", gap)):
        allocator.allocate(key, many)
    reserved, place = allocator.reserved, allocator.blocks["gap"].address
    allocator.free("gap")
    allocator.allocate("new", size)
    block = allocator.blocks["new"]
    assert (block.address, block.size, allocator.reserved) == (place, taken, reserved)
    rest = block.after
    assert (rest.size if rest.free else 0) == left
    assert allocator.allocated == 2 * gap + taken


def test_a_request_takes_the_smallest_block_that_is_large_enough():
    """Of equal ones that at the lowest address; a block of just its size is large enough."""
    allocator = CachingAllocator()
    for key, size in (("a", 40), ("b", 30), ("c", 20), ("d", 30), ("e", 12)):
        allocator.allocate(key, size * MIB)
    places = {key: block.address for key, block in allocator.blocks.items()}
    for key in "dbcae":
        allocator.free(key)
    for size, key in ((30, "b"), (30, "d"), (30, "a"), (13, "c"), (12, "e")):
        allocator.allocate((size, key), size * MIB)
        assert allocator.blocks[size, key].address == places[key]
    assert allocator.reserved == 132 * MIB


def test_small_and_large_blocks_have_pools_of_their_own():
    allocator = CachingAllocator()
    allocator.allocate("large", MIB + 1)
    allocator.free("large")
    allocator.allocate("small", MIB)
    assert allocator.reserved == 22 * MIB


@pytest.mark.parametrize("expandable", [False, True])
def test_a_gpu_may_be_full_to_the_last_byte(expandable):
    """And gives nothing back as long as there is room."""
    allocator = CachingAllocator(capacity=80 * MIB, expandable=expandable)
    allocator.allocate("a", 40 * MIB)
    allocator.free("a")
    allocator.allocate("other stream", 40 * MIB, stream=1)
    assert allocator.reserved == 80 * MIB
    allocator.allocate("third", 40 * MIB, stream=2)  # a goes back
    assert (allocator.reserved, allocator.max_reserved) == (80 * MIB, 80 * MIB)
    with pytest.raises(OutOfMemory):
        allocator.allocate("fourth", 1)
    assert allocator.allocated == 80 * MIB


def test_statistics_begin_anew_at_their_reset():
    """By the names of `torch.cuda.memory_stats`; a block that waits is active and not allocated."""
    allocator = CachingAllocator(prompt=False)
    allocator.allocate("a", 30 * MIB)
    allocator.allocate("b", 12 * MIB)
    allocator.record_stream("b", 1)
    allocator.free("a")
    allocator.empty_cache()
    names = ("allocated_bytes", "reserved_bytes", "active_bytes")

    def now() -> list[list[int]]:
        found = allocator.statistics()
        return [[found[f"{name}.all.{which}"] // MIB for name in names]
                for which in ("current", "peak")]  # fmt: skip

    assert now() == [[12, 12, 12], [42, 42, 42]]
    allocator.reset_peaks()
    allocator.free("b")
    assert now() == [[0, 12, 12], [12, 12, 12]]
    allocator.reset_peaks()
    assert now() == [[0, 12, 12], [0, 12, 12]]
    assert (allocator.max_allocated, allocator.max_reserved) == (42 * MIB, 42 * MIB)
    allocator.synchronize()
    assert now()[0] == [0, 12, 0]


def test_a_private_pool_is_not_emptied():
    """Those of CUDA graphs are streams below 0 here."""
    allocator = CachingAllocator()
    for stream in (-1, 0):
        allocator.allocate(stream, 12 * MIB, stream)
        allocator.free(stream)
    allocator.empty_cache()
    assert allocator.reserved == 12 * MIB


def test_neighbours_become_one_block_again():
    allocator = CachingAllocator()
    for key in "abcd":
        allocator.allocate(key, 5 * MIB)
    assert allocator.reserved == 20 * MIB
    allocator.free("b")
    allocator.free("c")
    allocator.allocate("e", 9 * MIB)  # fits where b and c were
    assert allocator.reserved == 20 * MIB


def test_a_stream_has_pools_of_its_own():
    allocator = CachingAllocator()
    allocator.allocate("a", 12 * MIB)
    allocator.free("a")
    allocator.allocate("b", 12 * MIB, stream=1)
    assert allocator.reserved == 24 * MIB


def test_a_full_gpu_gives_unused_segments_back_first():
    allocator = CachingAllocator(capacity=40 * MIB)
    allocator.allocate("a", 30 * MIB)
    allocator.free("a")
    allocator.allocate("b", 32 * MIB)
    assert allocator.reserved == 32 * MIB
    with pytest.raises(OutOfMemory):
        allocator.allocate("c", 12 * MIB)


@pytest.mark.parametrize("expandable", [False, True])
@pytest.mark.parametrize("prompt", [False, True])
def test_nothing_is_lost_and_nothing_overlaps(expandable, prompt):
    chance = random.Random(123)
    allocator = CachingAllocator(expandable=expandable, prompt=prompt)
    for key in range(4000):
        allocator.allocate(key, int(10 ** chance.uniform(0, 8)), chance.randrange(2))
        if chance.random() < 0.2:
            allocator.record_stream(key, chance.randrange(3))
        if chance.random() < 0.9 and allocator.blocks:
            allocator.free(chance.choice(list(allocator.blocks)))
        if chance.random() < 0.01:
            allocator.record("event", 1)
            allocator.synchronize(chance.choice([None, "event"]))
        assert allocator.allocated <= allocator.reserved
        assert allocator.reserved == sum(segment.size for segment in allocator.segments)
    spans = sorted((b.address, b.address + b.size) for b in allocator.blocks.values())
    assert all(one[1] <= other[0] for one, other in itertools.pairwise(spans))
    for key in list(allocator.blocks):
        allocator.free(key)
    assert allocator.allocated == 0
    allocator.empty_cache()
    assert allocator.reserved == 0
    assert allocator.segments == set()


def expandable_with_a_hole() -> CachingAllocator:
    """100 MiB free in front, 40 MiB in use behind, after `empty_cache`."""
    allocator = CachingAllocator(expandable=True)
    allocator.allocate("front", 100 * MIB)
    allocator.allocate("back", 30 * MIB)
    allocator.free("front")
    assert allocator.reserved == 140 * MIB
    allocator.empty_cache()
    return allocator


def test_unused_pages_in_front_go_back_to_the_driver():
    allocator = expandable_with_a_hole()
    assert allocator.reserved == 40 * MIB
    assert allocator.max_reserved == 140 * MIB
    allocator.free("back")
    allocator.empty_cache()
    assert allocator.reserved == 0


def test_a_page_that_is_partly_used_stays():
    allocator = CachingAllocator(expandable=True)
    allocator.allocate("front", 30 * MIB)
    allocator.allocate("middle", 2 * MIB)
    allocator.allocate("back", 70 * MIB)
    allocator.free("front")
    allocator.free("back")
    allocator.empty_cache()
    assert allocator.reserved == 20 * MIB  # the second of six pages, with the middle in it


@pytest.mark.parametrize(
    ("size", "reserved", "place"),
    [
        (60, 100, 0),
        (100, 140, 0),
        (101, 140, 130),
    ],  # 10 MiB at 130 are free, and 91 need five pages
)
def test_memory_comes_back_at_the_lowest_addresses_that_suffice(size, reserved, place):
    allocator = expandable_with_a_hole()
    allocator.allocate("new", size * MIB)
    assert allocator.reserved == reserved * MIB
    assert allocator.blocks["new"].address == place * MIB


def test_a_block_at_the_end_of_a_segment_is_kept_for_what_grows():
    """`expandable_size` in `get_free_block`: it counts with the addresses behind it."""
    allocator = CachingAllocator(expandable=True)
    allocator.allocate("front", 30 * MIB)
    allocator.allocate("back", 5 * MIB)  # and 5 MiB are left of two pages
    allocator.free("front")
    allocator.allocate("new", 4 * MIB)
    assert allocator.blocks["new"].address == 0
    allocator.allocate("large", 27 * MIB)  # 26 are free in front: 22 more behind the 5
    assert allocator.blocks["large"].address == 35 * MIB
    assert allocator.reserved == 80 * MIB


def test_segments_have_the_memory_that_their_pages_have():
    allocator = expandable_with_a_hole()
    (segment,) = allocator.segments
    assert segment.size == 40 * MIB
    spans = [(block.size, block.mapped) for block in segment.blocks()]
    assert spans[:3] == [(100 * MIB, False), (30 * MIB, True), (10 * MIB, True)]
    assert not spans[3][1]


def test_a_full_gpu_finds_room_in_front():
    allocator = CachingAllocator(expandable=True, capacity=140 * MIB)
    allocator.allocate("front", 100 * MIB)
    allocator.allocate("back", 40 * MIB)
    allocator.free("front")
    allocator.allocate("other stream", 90 * MIB, stream=1)
    assert allocator.reserved == 140 * MIB
    with pytest.raises(OutOfMemory):
        allocator.allocate("more", 20 * MIB)


SIZES = strategies.integers(0, 40 * 2**20)
MOVES = strategies.lists(
    strategies.one_of(
        strategies.tuples(strategies.just("allocate"), SIZES, strategies.integers(0, 2)),
        strategies.tuples(
            strategies.sampled_from(["free", "record_stream"]),
            strategies.integers(0, 10**6),
            strategies.integers(0, 2),
        ),
        strategies.tuples(
            strategies.sampled_from(["empty_cache", "synchronize"]),
            strategies.just(0),
            strategies.just(0),
        ),
    ),
    max_size=80,
)


@hypothesis.given(MOVES, strategies.booleans(), strategies.booleans())
@hypothesis.settings(deadline=None, max_examples=300)
def test_whatever_is_asked_of_it(moves, expandable, prompt):
    """Never less reserved than allocated, no two blocks at one place, every byte returned."""
    allocator = CachingAllocator(expandable=expandable, prompt=prompt)
    keys = []
    for number, (move, value, stream) in enumerate(moves):
        if move == "allocate":
            allocator.allocate(number, value, stream)
            keys.append(number)
        elif move in ("empty_cache", "synchronize"):
            getattr(allocator, move)()
        elif keys and move == "free":
            allocator.free(keys.pop(value % len(keys)))
        elif keys:
            allocator.record_stream(keys[value % len(keys)], stream)
        assert allocator.reserved >= allocator.allocated
        places = sorted((b.address, b.address + b.size) for b in allocator.blocks.values())
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(places))
    for key in keys:
        allocator.free(key)
    allocator.empty_cache()
    assert allocator.allocated == allocator.reserved == 0
