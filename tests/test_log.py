"""The log of storages: what is booked, its peaks, and the allocators that follow it."""

from collections.abc import Iterator

import pytest
import torch

from vramcast.kinds import KINDS
from vramcast.memory import peaks
from vramcast.memory.allocators import Allocators
from vramcast.memory.settings import Settings
from vramcast.memory.storages import COPIES, STREAMS, Storage, Storages
from vramcast.memory.tracker import Tracker

MIB = 2**20
FIRST, SECOND = torch.device("cuda", 0), torch.device("cuda", 1)


def on(gpu: torch.device, log: Storages, numbers: int) -> torch.Tensor:
    """A tensor on the CPU, of as many numbers in float32, that is booked as on a GPU."""
    tensor = torch.empty(numbers)
    log._book(tensor, "op", (), gpu)
    return tensor


def short(log: Storages) -> Iterator[tuple]:
    """The events with the sizes of their storages."""
    for what, storage, other in log.events:
        yield (what, storage and storage.size, other)


def kept(size: int, device: str = "cuda", gpu: int = 0, phase: str = "", pinned: bool = False):
    storage = Storage(size, device, phase, "", "", gpu)
    storage.pinned = pinned
    return storage


# ---------------------------------------------------------------------------------------- storages


def test_a_storage_is_booked_once_until_it_is_released():
    log = Storages()
    tensor = on(FIRST, log, 3)
    part = tensor[1:]
    log._book(part, "op", (), FIRST)
    (storage,) = log.storages.values()
    assert (storage.size, storage.block, storage.device, storage.gpu) == (12, 512, "cuda", 0)
    assert log.find(part) is storage
    del tensor
    assert storage.alive
    del part
    assert not storage.alive
    assert list(short(log)) == [("allocate", 12, 0), ("free", 12, None)]
    assert log.storages == log.watched == {}


def test_a_storage_that_is_resized_is_another_allocation():
    """As FSDP does; what is known of it stays, and an empty one has no block."""
    log = Storages()
    tensor = on(SECOND, log, 256)
    old = log.find(tensor)
    old.kind = "parameters"
    for size in (0, 2048):
        tensor.untyped_storage().resize_(size)
        log.resized(tensor.untyped_storage(), size)
        log.resized(tensor.untyped_storage(), size)  # is no change
    new = log.find(tensor)
    assert (new.kind, new.gpu, new.block, old.alive) == ("parameters", 1, 2048, False)
    assert list(short(log)) == [
        ("allocate", 1024, STREAMS), ("free", 1024, None), ("allocate", 0, STREAMS),
        ("free", 0, None), ("allocate", 2048, STREAMS),
    ]  # fmt: skip
    assert log.others


def test_a_pause_books_nothing():
    log = Storages()
    with log.paused():
        log.book(torch.empty(3), "op")
        with log.paused():
            pass
        assert log.pause
    assert not log.pause
    assert log.events == []


def test_copies_stand_for_what_a_loop_would_keep():
    """In blocks of its size, or of more, so that they are not too many; they end with it."""
    log = Storages()
    tensor = on(FIRST, log, 256)
    storage = log.find(tensor)
    storage.kind, storage.saved = "activations", True
    log.copy(storage, 2500)
    copies = [event[1] for event in log.events[1:]]
    assert [copy.size for copy in copies] == [1024, 1024, 452]
    assert {(copy.kind, copy.saved, copy.device) for copy in copies} == {
        ("activations", True, "cuda")
    }
    log.copy(storage, 3 * COPIES * 1024)
    assert len(log.events) == 4 + COPIES
    del tensor
    assert len(log.events) == 2 * (4 + COPIES)
    log.copy(storage, 1024)  # it does not live any more
    assert len(log.events) == 2 * (4 + COPIES)


def test_what_a_library_takes_is_given_back():
    log = Storages()
    taken = log.take([10, 20], torch.empty(1))
    log.give_back(taken)
    assert list(short(log)) == [
        ("allocate", 10, 0), ("allocate", 20, 0), ("free", 10, None), ("free", 20, None),
    ]  # fmt: skip
    assert {storage.kind for storage in taken} == {"temporaries"}
    assert not any(storage.alive for storage in taken)


def test_streams_that_meet_wait_for_each_other():
    log = Storages()
    log.meet(0, 1)
    (_, _, (one, first)), (_, _, (after, follows)) = log.events[:2]
    (_, _, (other, second)), (_, _, (later, following)) = log.events[2:]
    assert [event[0] for event in log.events] == ["record", "follow"] * 2
    assert (first, after, follows) == (0, STREAMS, one)
    assert (second, later, following) == (STREAMS, 0, other)
    log.wait_here(1)
    (_, _, (event, stream)), waits = log.events[4:]
    assert (stream, waits) == (STREAMS, ("wait", None, event))


def test_a_sparse_tensor_is_booked_by_its_parts():
    """Its storage is that of its values; of both parts it is known what they are for."""
    log = Storages()
    sparse = torch.sparse_coo_tensor([[0, 2]], [1.0, 2.0], (3,), check_invariants=True)
    indices, values = log.parts(sparse)
    log.book([sparse, 3, "no tensor"], "op")
    assert list(short(log)) == [("allocate", 16, 0), ("allocate", 8, 0)]
    assert log.find(sparse) is log.find(values) is not log.find(indices)
    log.label([sparse, None], "gradients")
    assert log.find(indices).kind == log.find(values).kind == "gradients"
    log.use(sparse, 7)
    assert list(short(log))[2:] == [("use", 16, 7), ("use", 8, 7)]
    assert log.find(torch.empty(1)) is None
    log.use(torch.empty(1), 7)
    log.label([torch.empty(1)], "gradients")
    assert len(log.events) == 4


def test_memory_of_the_host_may_be_pinned():
    log = Storages()
    host, other = torch.empty(3), on(FIRST, log, 3)
    log.book(host, "op")
    for tensor in (host, other, torch.empty(1)):
        log.pin(tensor)
    assert (log.find(host).pinned, log.find(other).pinned) == (True, False)
    host.untyped_storage().resize_(24)
    log.book(host, "op")
    assert (log.find(host).size, log.find(host).pinned) == (24, True)


def test_the_current_stream_is_that_of_the_current_gpu():
    log = Storages()
    log.streams[1], log.gpu = STREAMS + 3, 1
    assert log.stream == STREAMS + 3
    tensor = on(SECOND, log, 3)
    assert list(short(log)) == [("allocate", 12, STREAMS + 3)]
    asked = []
    log.configure = lambda: asked.append(1)
    log.book(torch.empty(3), "op")  # is no GPU's
    assert asked == []
    on(FIRST, log, 3)
    assert asked == [1]
    del tensor


# ------------------------------------------------------------------------------------------- peaks


def test_the_peak_is_what_is_alive_then():
    """In blocks of 512 bytes on the GPU; of the peaks that are equal, the first."""
    a, b, c, host = kept(1000), kept(513), kept(2048, phase="last"), kept(5000, "cpu")
    events = [
        ("allocate", a, 0), ("allocate", host, 0), ("allocate", b, 0), ("free", b, None),
        ("mark", None, "step"), ("allocate", c, 0), ("free", a, None), ("allocate", b, 0),
        ("free", c, None), ("allocate", kept(2048), 0),
    ]  # fmt: skip
    assert peaks.peak(events, "cuda") == (1024 + 2048, [a, c], c)
    assert peaks.peak(events[:5], "cuda") == (2048, [a, b], b)
    assert peaks.peak(events, "cpu") == (5000, [host], host)
    assert peaks.peak(events, "cuda", since=6)[:2] == (2048 + 1024, [c, b])
    assert peaks.peak([], "cuda") == (0, [], None)


def test_the_training_peak_is_that_after_the_first_step():
    a, b = kept(4096, "cpu"), kept(100, "cpu")
    events = [
        ("allocate", a, 0), ("mark", None, "pass"), ("allocate", b, 0), ("free", b, None),
        ("mark", None, "step"), ("free", a, None),
    ]  # fmt: skip
    assert peaks.training_peak(events, "cpu") == 4096
    assert peaks.training_peak(events[:4], "cpu") == 0
    assert peaks.training_peak([*events, ("allocate", kept(5000, "cpu"), 0)], "cpu") == 5000


def test_what_stays_is_what_is_alive_after_the_last_step():
    a, b, host = kept(100), kept(200), kept(300, "cpu")
    events = [
        ("allocate", a, 0), ("mark", None, "step"), ("free", a, None), ("allocate", b, 0),
        ("allocate", host, 0), ("mark", None, "step"), ("free", b, None), ("mark", None, "pass"),
    ]  # fmt: skip
    assert peaks.after_last_step(events) == [b]
    assert peaks.after_last_step(events[:5]) == [a]
    assert peaks.after_last_step(events[:1]) == []


def test_pinned_memory_is_never_given_back():
    pinned, other = kept(700, "cpu", pinned=True), kept(600, "cpu", pinned=True)
    plain = kept(600, "cpu")
    events = [
        ("allocate", pinned, 0), ("free", pinned, None), ("allocate", other, 0),
        ("allocate", plain, 0), ("free", plain, None), ("use", other, 1),
    ]  # fmt: skip
    assert list(peaks.changes(events, "cpu")) == [1024, 0, 0, 600, -600, 0]
    assert list(peaks.changes(events, "cuda")) == [0] * 6


def test_a_peak_is_broken_down_by_kinds():
    tracker = Tracker()
    kinds = [kept(100), kept(600), kept(600), kept(9, "cpu")]
    kinds[0].kind, kinds[1].saved = "gradients", True
    found = peaks.breakdown(tracker, kinds)
    expected = dict.fromkeys(KINDS, 0)
    assert found == expected | {"gradients": 512, "activations": 1024, "temporaries": 1024}


@pytest.mark.parametrize(("prompt", "reserved"), [(True, 12), (False, 24)])
def test_an_allocator_does_what_the_log_says(prompt, reserved):
    """A block that another stream uses is free once the CPU has waited."""
    a, b = kept(12 * MIB), kept(12 * MIB)
    used = [("allocate", a, 0), ("use", a, 1), ("free", a, None)]
    host = [("allocate", kept(MIB, "cpu"), 0)]
    after = peaks.replay([*used, *host, ("allocate", b, 0)], prompt=prompt)
    assert after.reserved == reserved * MIB
    waited = [*used, ("record", None, ("event", 1)), ("wait", None, "event"), ("allocate", b, 0)]
    assert peaks.replay(waited, prompt=False).reserved == 12 * MIB
    ordered = [
        *used, ("record", None, ("event", 1)), ("follow", None, (2, "event")),
        ("record", None, ("second", 2)), ("wait", None, "second"), ("allocate", b, 0),
    ]  # fmt: skip
    assert peaks.replay(ordered, prompt=False).reserved == 12 * MIB
    assert peaks.replay([*used, ("empty", None, None)]).reserved == 0
    grown = [("settings", None, Settings(expandable=True)), ("allocate", a, 0)]
    assert peaks.replay(grown).reserved == 20 * MIB
    assert peaks.replay(used, capacity=11 * MIB) is None
    assert peaks.replay(used, capacity=12 * MIB).allocated == 0


# -------------------------------------------------------------------------------------- allocators


def test_each_gpu_has_an_allocator_of_its_own():
    all_of_them = Allocators(prompt=False)
    all_of_them[0].settings = Settings(expandable=True)
    events = [
        ("allocate", kept(3 * MIB), 0), ("allocate", kept(30 * MIB, gpu=2), 2 * STREAMS),
        ("allocate", kept(99, "cpu"), 0), ("wait", None, None),
    ]  # fmt: skip
    for event in events:
        all_of_them.feed(*event)
    assert all_of_them.used() == [0, 2]
    assert [all_of_them[gpu].reserved for gpu in (0, 2)] == [20 * MIB, 40 * MIB]
    assert all_of_them[2].order is all_of_them[0].order
    assert all_of_them.fullest() == 2
    assert all_of_them.part(events, 2) == events[1:]
    assert all_of_them.part(events, 0) == [events[0], *events[2:]]


def test_without_memory_the_first_gpu_is_the_used_one():
    none = Allocators()
    assert (none.used(), none.fullest()) == ([0], 0)
    events = [("allocate", kept(3), 0), ("allocate", kept(0, gpu=1), 0)]
    for event in events:
        none.feed(*event)
    assert none.used() == [0]
    assert none.part(events, 0) == events  # all of it, where there is one


def test_what_is_of_no_storage_is_for_all_gpus():
    both = Allocators()
    a, b = kept(3 * MIB), kept(3 * MIB, gpu=1)
    for storage in (a, b):
        both.feed("allocate", storage, storage.gpu * STREAMS)
        both.feed("free", storage, None)
    assert [both[gpu].reserved for gpu in (0, 1)] == [20 * MIB] * 2
    both.feed("empty", None, None)
    assert [both[gpu].reserved for gpu in (0, 1)] == [0, 0]
