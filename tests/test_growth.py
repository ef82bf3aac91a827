"""Memory that grows with each iteration: when that is told, how fast, and what is counted."""

from types import SimpleNamespace

import pytest

from vramcast.loops import growth
from vramcast.loops.course import GROWN, NUMBERS, Course, Memory
from vramcast.loops.growth import Growing, Growth
from vramcast.memory.storages import Storage

MB = 10**6
STEP = MB  # by which memory grows, unless a test says otherwise


class Watched:
    """The memory of a script, of which a test says what it holds; notes, and what was copied."""

    def __init__(self, allocated: int = 0) -> None:
        self.level = self.host = self.reserved = self.taken = self.made = 0
        self.allocated = allocated  # at the peak, if that is not what is allocated now
        self.notes, self.copied = [], []
        self.origins = SimpleNamespace(on=False, count=0, of={}, forget=lambda: None)

    def memory(self) -> Memory:
        return Memory(max(self.allocated, self.level), self.reserved, self.level, self.host)

    def copy(self, storage: Storage, size: int) -> None:
        self.copied.append((storage, size))

    def keep(self, size: int, device: str = "cuda") -> Storage:
        """A tensor that stays."""
        storage = Storage(size, device, "", "", "op")
        told = SimpleNamespace(number=self.origins.count, told=lambda storage: "line 7")
        self.origins.of[storage] = told
        self.origins.count += 1
        if device == "cuda":
            self.level += size
        else:
            self.host += size
        return storage


def grown(turns: int, *sizes: int, device: str = "cuda", **options: int) -> Growth:
    """After so many iterations, of each of which tensors of these sizes stay."""
    watched = Watched(**options)
    course = Course(watched)
    found = Growth(course)
    for _ in range(turns):
        for size in sizes:
            watched.keep(size, device)
        course.turn()
        found.turn()
    return found


# ----------------------------------------------------------------------------------------- course


@pytest.mark.parametrize(
    ("more", "rose", "stays"),
    [
        ({}, False, False),
        ({"level": NUMBERS}, False, False),
        ({"level": NUMBERS + 1}, True, True),
        ({"host": NUMBERS}, False, False),
        ({"host": NUMBERS + 1}, True, True),
        ({"allocated": NUMBERS}, False, False),
        ({"allocated": NUMBERS + 1}, True, False),
        ({"reserved": 1}, True, False),
    ],
)
def test_what_counts_as_more(more, rose, stays):
    before = {"allocated": 100, "reserved": 100, "level": 100, "host": 100}
    after = {name: value + more.get(name, 0) for name, value in before.items()}
    assert Memory(**after).rose(Memory(**before)) == rose
    assert Memory(**after).stays(Memory(**before)) == stays


def test_the_most_of_each_figure():
    assert Memory(1, 20, 3, 40).most(Memory(10, 2, 30, 4)) == Memory(10, 20, 30, 40)


def test_growth_is_told_after_ten_even_rises():
    """The first iteration, in which gradients come, is no rise."""
    assert not grown(GROWN, STEP).course.grows()
    assert grown(GROWN + 1, STEP).course.grows()
    assert [grown(turns, STEP).course.suspect() for turns in (3, 4)] == [False, True]


@pytest.mark.parametrize(("factor", "turns"), [(2, GROWN + 1), (3, 5 * GROWN + 1)])
def test_uneven_rises_are_growth_after_long(factor, turns):
    def uneven(turns: int) -> Course:
        watched = Watched()
        course = Course(watched)
        for turn in range(turns):
            watched.keep(STEP * (factor if turn % 2 else 1))
            course.turn()
        return course

    assert not uneven(turns - 1).grows()
    assert uneven(turns).grows()


def test_the_rate_is_that_of_the_last_rises_by_iteration():
    watched = Watched()
    course = Course(watched)
    for turn in range(1, 9):
        watched.level += 3 * MB if turn < 4 else MB
        watched.host += 5 * MB
        course.turn(10 * turn)  # nine of ten were left out
    assert course.rate() == (0.1 * MB, 0.5 * MB)
    assert grown(2, STEP).course.rate() == (0, 0)
    assert grown(3, STEP).course.rate() == (STEP, 0)


def test_quiet_and_drift_since_memory_is_at_rest():
    found = grown(3, STEP).course
    for _ in range(4):
        found.watched.level += 100
        found.turn()
    assert (found.turns, found.quiet, len(found.rises)) == (7, 4, 2)
    assert found.drift() == 100
    found.watched.level -= 1000
    found.turn()
    assert found.drift() == 0  # is not below


# ----------------------------------------------------------------------------------------- growth


def test_origins_are_remembered_from_the_first_suspicion_on():
    assert not grown(3, STEP).watched.origins.on
    found = grown(6, STEP)
    assert found.watched.origins.on
    assert found.begun == [(4, 4), (5, 5), (6, 6)]


def test_the_rest_is_counted_once_memory_has_grown_often():
    """An evaluation, in which nothing is trained, is run for long."""
    assert not grown(GROWN, STEP).due(trained=True)
    assert grown(GROWN + 1, STEP).due(trained=True)
    assert not grown(growth.WITHOUT - 1, STEP).due(trained=False)
    assert grown(growth.WITHOUT, STEP).due(trained=False)


@pytest.mark.parametrize(("freed", "due"), [(STEP, True), (STEP + 1, False)])
def test_what_a_cycle_of_references_kept_does_not_count(monkeypatch, freed, due):
    found = grown(GROWN + 1, STEP)
    monkeypatch.setattr(
        growth.gc, "collect", lambda: setattr(found.watched, "level", found.watched.level - freed)
    )
    assert found.due(trained=True) == due
    assert bool(found.course.rises) == due


def test_as_much_is_counted_for_all_that_is_left_but_one():
    """The last one is run. What stays of one iteration stands for it, by its share."""
    found = grown(20, 3 * STEP, STEP)
    found.goes_on(101, "batch", "line 3")
    sizes = [(storage.size, size) for storage, size in found.watched.copied]
    assert sizes == [(3 * STEP, 300 * STEP), (STEP, 100 * STEP)]
    (note,) = found.watched.notes
    assert note == (
        "line 3: memory grows by 4.0 MB with each batch (line 7, and 1 more). So much is counted "
        "for 100 more of them, 0.40 GB"
    )


def test_what_grows_on_the_host_is_counted_there():
    found = grown(20, 50_000, device="cpu")
    found.goes_on(11, "batch", "")
    ((storage, size),) = found.watched.copied
    assert (storage.device, size) == ("cpu", 500_000)
    assert "memory grows by 50.0 kB on the host with each batch (line 7)" in found.watched.notes[0]


def test_little_is_counted_without_a_note():
    """Up to a hundredth of the peak."""
    for left, notes in ((11, 0), (12, 1)):
        found = grown(20, STEP, allocated=1000 * STEP)
        found.goes_on(left, "batch", "")
        assert len(found.watched.copied) == 1
        assert len(found.watched.notes) == notes


def test_without_a_known_end_growth_is_an_end():
    found = grown(20, STEP)
    found.watched.reserved = 2 * 10**9
    with pytest.raises(Growing, match=r"line 3: memory grows by 1\.0 MB .* After 20 .* 2\.00 GB"):
        found.goes_on(None, "batch", "line 3")


def test_of_a_tensor_that_grows_the_last_one_stays():
    """As in `kept = torch.cat([kept, new])`: the largest of the last iteration, whole."""
    watched = Watched()
    course = Course(watched)
    found = Growth(course)
    kept = None
    for turn in range(1, 21):
        if kept is not None:
            kept.alive = False
            watched.level -= kept.size
        kept = watched.keep(turn * STEP)
        course.turn()
        found.turn()
    assert found._stays("cuda") == [kept]
    last = watched.keep(21 * STEP)
    watched.keep(10)
    assert found._stays("cuda") == [last]


def test_what_stays_at_rest_is_noted_if_it_comes_to_much():
    """To more than a hundredth of the peak, which is 3 MB here: 30 kB."""
    for left, notes in ((300, 0), (301, 1), (None, 0)):
        found = grown(3, STEP)
        for _ in range(4):
            found.watched.level += 100
            found.course.turn()
        found.watched.allocated = 3 * MB
        found.watched.level = 0
        found.rests(left, "batch", "line 3")
        assert len(found.watched.notes) == notes
    assert grown(1, STEP).rests(10**9, "batch", "") is None


@pytest.mark.parametrize(
    ("amounts", "varies"),
    [
        ([9, 5, 5], False),
        ([9, 7, 5], True),
        ([9, 7, 5, 5], False),
        ([9, 7, 5, 4, 4], True),
        ([9, 7, 5, 4, 4, 4], False),
        ([5, 9, 5, 9, 5], False),
    ],
)
def test_iterations_that_allocate_other_amounts_each_time(amounts, varies):
    watched = Watched()
    course = Course(watched)
    for amount in amounts:
        watched.taken += amount
        course.turn()
    assert course.varies() == varies
