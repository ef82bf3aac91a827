"""What the CPU knows to be done: CUDA's rules on streams and events, by hand and by search."""

import hypothesis
from hypothesis import strategies

from vramcast.memory.allocator import CachingAllocator
from vramcast.memory.order import Order

MIB = 2**20
MAIN, SIDE, THIRD = 0, 1, 2


def freed_while_used(by: int = SIDE, before=lambda allocator: None) -> CachingAllocator:
    """An allocator whose block of 12 MiB another stream used when it was freed."""
    allocator = CachingAllocator(prompt=False)
    allocator.allocate("block", 12 * MIB, MAIN)
    allocator.record_stream("block", by)
    before(allocator)
    allocator.free("block")
    return allocator


def is_free(allocator: CachingAllocator) -> bool:
    """Whether 12 MiB are there for the main stream without another segment."""
    allocator.allocate("other", 12 * MIB, MAIN)
    return allocator.reserved == 12 * MIB


def test_nothing_is_known_without_a_wait():
    assert not is_free(freed_while_used())


def test_an_event_of_before_does_not_free():
    allocator = freed_while_used(before=lambda allocator: allocator.record("early", SIDE))
    allocator.synchronize("early")
    assert not is_free(allocator)


def test_an_event_of_after_frees():
    allocator = freed_while_used()
    allocator.record("late", SIDE)
    allocator.synchronize("late")
    assert is_free(allocator)


def test_an_event_of_another_stream_does_not_free():
    allocator = freed_while_used()
    allocator.record("elsewhere", MAIN)
    allocator.synchronize("elsewhere")
    assert not is_free(allocator)


def test_a_chain_of_three_streams_frees():
    """The CPU waits for the third alone, that waited for the second, and that for the first."""
    allocator = freed_while_used()
    allocator.record("first", SIDE)
    allocator.follow(THIRD, "first")
    allocator.record("second", THIRD)
    allocator.follow(MAIN, "second")
    allocator.record("third", MAIN)
    allocator.synchronize("third")
    assert is_free(allocator)


def test_a_chain_that_begins_too_early_does_not_free():
    allocator = freed_while_used(before=lambda allocator: allocator.record("first", SIDE))
    allocator.follow(MAIN, "first")
    allocator.record("second", MAIN)
    allocator.synchronize("second")
    assert not is_free(allocator)


def test_a_wait_that_comes_after_the_event_tells_it_nothing():
    allocator = freed_while_used()
    allocator.record("main", MAIN)
    allocator.record("side", SIDE)
    allocator.follow(MAIN, "side")
    allocator.synchronize("main")
    assert not is_free(allocator)


def test_all_users_have_to_be_done():
    allocator = freed_while_used(before=lambda allocator: allocator.record_stream("block", THIRD))
    allocator.record("side", SIDE)
    allocator.synchronize("side")
    allocator.record("third", THIRD)
    allocator.synchronize("third")
    assert is_free(allocator)
    allocator = freed_while_used(before=lambda allocator: allocator.record_stream("block", THIRD))
    allocator.record("side", SIDE)
    allocator.synchronize("side")
    assert not is_free(allocator)


def test_a_wait_for_the_device_frees():
    allocator = freed_while_used()
    allocator.synchronize()
    assert is_free(allocator)


def test_an_event_that_is_recorded_again_is_its_last_record():
    allocator = freed_while_used(before=lambda allocator: allocator.record("event", SIDE))
    allocator.record("event", SIDE)
    allocator.synchronize("event")
    assert is_free(allocator)


STREAM, EVENT = strategies.integers(0, 3), strategies.integers(0, 4)
TRACE = strategies.lists(
    strategies.one_of(
        strategies.tuples(strategies.just("work"), STREAM, strategies.none()),
        strategies.tuples(strategies.sampled_from(["record", "follow"]), STREAM, EVENT),
        strategies.tuples(strategies.just("wait"), strategies.none(), EVENT),
        strategies.tuples(strategies.just("wait all"), strategies.none(), strategies.none()),
    ),
    max_size=60,
)


@hypothesis.given(TRACE)
@hypothesis.settings(deadline=None, max_examples=500)
def test_the_clock_says_what_a_search_finds(trace):
    """Of each piece of work: is there a way from it, forwards, to something that the CPU awaited?

    In the graph, a stream's entries follow each other, and who waits follows the record.
    """
    order, work = Order(), []  # of each piece of work: its node, stream and point
    before: list[list[int]] = []  # of each node, those directly before it
    last: dict[int, int] = {}  # the last node of each stream
    recorded: dict[int, int] = {}  # the node of each event
    awaited: set[int] = set()

    def node(stream: int, *others: int) -> int:
        before.append([*others, *([last[stream]] if stream in last else [])])
        last[stream] = len(before) - 1
        return last[stream]

    for what, stream, event in trace:
        if what == "work":
            work.append((node(stream), stream, order.point(stream)))
        elif what == "record":
            recorded[event] = node(stream)
            order.record(event, stream)
        elif what == "follow":
            if event in recorded:
                node(stream, recorded[event])
            order.follow(stream, event)
        elif what == "wait":
            awaited |= {recorded[event]} if event in recorded else set()
            order.wait(event)
        else:
            awaited |= set(last.values())
            order.wait()
        done, ahead = set(), list(awaited)
        while ahead:
            here = ahead.pop()
            if here not in done:
                done.add(here)
                ahead += before[here]
        assert [order.done(stream, point) for _, stream, point in work] == [
            place in done for place, _, _ in work
        ]
