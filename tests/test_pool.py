"""Calls side by side: which start when, and what becomes of them. Nothing here depends on time."""

import os
import threading
from collections.abc import Callable

import pytest

from tests.helpers import HANG
from vramcast.processes import pool as pools
from vramcast.processes.pool import Pool


class Calls:
    """Calls by name that begin, and end when they are told to."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self._news = threading.Condition()
        self._ending: set[str] = set()

    def call(self, name: str) -> str:
        with self._news:
            self.begun.append(name)
            self._news.notify_all()
            self._wait_for(lambda: name in self._ending)
        return name

    def end(self, *names: str) -> None:
        with self._news:
            self._ending |= set(names)
            self._news.notify_all()

    def wait_for_begun(self, count: int) -> list[str]:
        """The first calls that began, in that order, as soon as there are so many."""
        with self._news:
            self._wait_for(lambda: len(self.begun) >= count)
            return list(self.begun)

    def _wait_for(self, condition: Callable[[], bool]) -> None:
        assert self._news.wait_for(condition, HANG)


@pytest.fixture
def calls() -> Calls:
    return Calls()


def test_results_come_in_order_whatever_ends_first(calls):
    with Pool(2, 0) as pool:
        for name in "abc":
            pool.submit(calls.call, name)
        assert sorted(calls.wait_for_begun(2)) == ["a", "b"]
        calls.end("b")
        assert calls.wait_for_begun(3)[2] == "c"  # while `a` runs
        calls.end("c", "a")
        assert [future.result() for future in pool.in_order()] == ["a", "b", "c"]


def test_never_more_run_than_there_are_slots():
    lock, running, most = threading.Lock(), set(), []

    def call(number: int, slots: int) -> None:
        with lock:
            running.add((number, slots))
            most.append(sum(taken for _, taken in running))
        with lock:
            running.discard((number, slots))

    with Pool(3, 0) as pool:
        for number in range(300):
            slots = number % 3 + 1
            pool.submit(call, number, slots, slots=slots)
    assert len(most) == 300
    assert max(most) <= 3


def test_what_is_larger_than_the_pool_gets_all_of_it(calls):
    with Pool(2, 10) as pool:
        pool.submit(calls.call, "large", slots=5, memory=50)
        pool.submit(calls.call, "small")
        assert calls.wait_for_begun(1) == ["large"]
        calls.end("large")
        assert calls.wait_for_begun(2) == ["large", "small"]
        calls.end("small")


def test_what_needs_more_slots_is_overtaken_and_does_not_starve(calls):
    with Pool(2, 0) as pool:
        pool.submit(calls.call, "first")
        pool.submit(calls.call, "both", slots=2)
        pool.submit(calls.call, "third")
        pool.submit(calls.call, "fourth")
        assert sorted(calls.wait_for_begun(2)) == ["first", "third"]
        calls.end("first")
        assert len(calls.begun) == 2
        calls.end("third")
        assert calls.wait_for_begun(3)[2] == "both"
        calls.end("both", "fourth")
    assert calls.begun[3] == "fourth"


def test_memory_limits_what_runs_together(calls):
    with Pool(4, 10) as pool:
        pool.submit(calls.call, "a", memory=6)
        pool.submit(calls.call, "b", memory=6)
        pool.submit(calls.call, "c", memory=4)
        assert sorted(calls.wait_for_begun(2)) == ["a", "c"]
        calls.end("a", "c")
        assert calls.wait_for_begun(3)[2] == "b"
        calls.end("b")


def test_a_call_that_fails_costs_the_others_nothing():
    with Pool(1, 0) as pool:
        pool.submit(int, "no number")
        pool.submit(int, "3")
        failed, good = pool.in_order()
    assert isinstance(failed.exception(), ValueError)
    assert good.result() == 3


def test_an_exception_ends_what_runs_and_cancels_what_waits(calls, monkeypatch):
    monkeypatch.setattr(pools, "end_all", lambda: calls.end("running"))
    futures = []

    def stopped() -> None:
        with Pool(1, 0) as pool:
            futures.extend(pool.submit(calls.call, name) for name in ("running", "never"))
            calls.wait_for_begun(1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    running, waiting = futures
    assert running.result() == "running"
    assert waiting.cancelled()
    assert calls.begun == ["running"]


def test_ctrl_c_again_ends_everything_once_more(calls, monkeypatch):
    times, wait = [], pools.wait

    def end_all() -> None:
        times.append("ended")
        if len(times) == 2:
            calls.end("stubborn")

    def interrupted(*args):
        """There is a Ctrl-C while a result is waited for, and one while processes end."""
        if len(times) < 2:
            raise KeyboardInterrupt
        return wait(*args)

    monkeypatch.setattr(pools, "end_all", end_all)
    monkeypatch.setattr(pools, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt), Pool(1, 0) as pool:
        pool.submit(calls.call, "stubborn")
    assert times == ["ended", "ended"]
    assert calls.begun == ["stubborn"]


def test_the_cores_are_those_that_this_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5, 8}, raising=False)
    assert pools.cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    assert pools.cores() == (os.cpu_count() or 1)


def test_memory_is_told_in_bytes():
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert whole / 1000 < pools.available_memory() <= whole
