"""Calls side by side, as many as cores and memory allow; their results in order.

Each call gets a thread, in which it waits for a process of its own (see supervisor.py):

    with Pool(cores(), available_memory()) as pool:
        for script in scripts:
            pool.submit(predict, script, memory=1e9)
        for future in pool.in_order():
            print(future.result())
"""

import contextlib
import os
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from pathlib import Path

from vramcast.processes.supervisor import POLL, end_all

OVERTAKEN = 1  # how often later calls may start before one that waits for more slots than are free


def cores() -> int:
    """How many cores this process may use: what `taskset` leaves it, where the system knows."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def available_memory() -> float:
    """Bytes that new processes may take now; half of all memory where that is not told (macOS).

    What a container is limited to counts, too, if it is by version 2 of Linux's control groups.
    """
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2
    with contextlib.suppress(OSError):
        found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
        free = 1024 * float(found[1])
    with contextlib.suppress(OSError, ValueError):  # there is none, or it is "max"
        free = min(free, float(Path("/sys/fs/cgroup/memory.max").read_text()))
    return free


@dataclass(eq=False)
class _Job:
    call: Callable[[], object]
    slots: int
    memory: float
    future: Future = field(default_factory=Future)
    overtaken: int = 0


class Pool:
    """Runs calls in threads, as many at a time as its slots (one a core) and its bytes allow.

    Calls start in the order in which they are submitted, except that a later one may start when an
    earlier one needs more than is free. To leave the `with` block is to wait for all calls. If an
    exception (Ctrl-C, say) leaves it, calls that have not started are cancelled, and the processes
    of the others ended, by `end_all`: politely, and at once after another Ctrl-C.
    """

    def __init__(self, slots: int, memory: float) -> None:
        self._slots, self._memory = slots, memory  # as much as there is
        self._jobs: list[_Job] = []
        self._waiting: list[_Job] = []
        self._running: list[_Job] = []
        self._lock = threading.Lock()

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, failed: type | None, *_) -> None:
        if failed is None:
            try:
                self._wait()
                return
            except BaseException:  # Ctrl-C, say
                self._end()
                raise
        self._end()

    def submit(self, call: Callable, *args: object, slots: int = 1, memory: float = 0) -> Future:
        """Run `call(*args)` once so many slots and bytes are free.

        A call that needs more than the pool has gets all of it.
        """
        job = _Job(lambda: call(*args), min(slots, self._slots), min(memory, self._memory))
        with self._lock:
            self._jobs.append(job)
            self._waiting.append(job)
            self._start()
        return job.future

    def in_order(self) -> Iterator[Future]:
        """The future of each call submitted so far, in their order, as soon as it is done.

        What a call raised is in its future, and is no matter to the others.
        """
        for job in list(self._jobs):
            while not job.future.done():
                wait([job.future], POLL)  # see there on Ctrl-C
            yield job.future

    def _start(self) -> None:
        """Start what there is room for. With the lock held."""
        passed: list[_Job] = []
        for job in list(self._waiting):
            if any(other.overtaken >= OVERTAKEN for other in passed):
                break
            if self._has_room(job):
                for other in passed:
                    other.overtaken += 1
                self._waiting.remove(job)
                self._running.append(job)
                threading.Thread(target=self._run, args=(job,)).start()
            else:
                passed.append(job)

    def _has_room(self, job: _Job) -> bool:
        slots = sum(other.slots for other in self._running)
        memory = sum(other.memory for other in self._running)
        return slots + job.slots <= self._slots and memory + job.memory <= self._memory

    def _run(self, job: _Job) -> None:
        """Make the call, and start those that its end leaves room for."""
        job.future.set_running_or_notify_cancel()
        try:
            result = job.call()
        except BaseException as failure:
            job.future.set_exception(failure)
        else:
            job.future.set_result(result)
        with self._lock:
            self._running.remove(job)
            self._start()

    def _wait(self) -> None:
        for _ in self.in_order():
            pass

    def _end(self) -> None:
        while True:
            try:
                with self._lock:
                    for job in self._waiting:
                        job.future.cancel()
                    self._waiting.clear()
                end_all()
                self._wait()
                return
            except KeyboardInterrupt:  # once more
                continue
