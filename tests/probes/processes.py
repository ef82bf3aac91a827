"""What `processes.run` makes of processes that send and end: python -m tests.probes.processes"""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.helpers import ASLEEP
from vramcast.processes import keeper, supervisor
from vramcast.processes.supervisor import (
    Ended,
    TooLong,
    end_all,
    end_forkserver,
    run,
    scratch_folder,
    start_forkserver,
)


def sends(folder, send) -> None:
    send(1)
    send([2])
    sys.exit(3)


def breaks(folder, send) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def sleeps(folder, send) -> None:
    send("asleep")
    time.sleep(ASLEEP)


def ends_politely(folder, send) -> None:
    def end(*_) -> None:
        time.sleep(0.2)
        (folder / "polite").write_text("")
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    sleeps(folder, send)


def does_not_end(folder, send) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sleeps(folder, send)


def stops_its_keeper(folder, send) -> None:
    for _ in range(1000):  # which does not give it more time
        send("begins")
    os.kill(os.getppid(), signal.SIGSTOP)
    time.sleep(ASLEEP)


def start_alone(folder) -> None:
    """A process in a session of its own, whose ID is in a file."""
    sleep = [sys.executable, "-c", f"import time; time.sleep({ASLEEP})"]
    (folder / "alone").write_text(str(subprocess.Popen(sleep, start_new_session=True).pid))


def kills_its_keeper(folder, send) -> None:
    start_alone(folder)
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(ASLEEP)


def kills_its_keeper_and_the_one_above(folder, send) -> None:
    start_alone(folder)
    keepers = os.getppid()
    os.kill(keepers, signal.SIGSTOP)
    parent = Path(f"/proc/{keepers}/stat").read_text().rpartition(")")[2].split()[1]
    os.kill(int(parent), signal.SIGKILL)
    os.kill(keepers, signal.SIGKILL)
    time.sleep(ASLEEP)


def left(folder) -> str:
    """Whether the process of `start_alone` runs."""
    pid = int((folder / "alone").read_text())
    return "left" if pid in keeper.descendants(1) else "ended"


def ask_once(_) -> None:
    """Ask the keeper of the process that runs, as a Ctrl-C does."""
    for pid in supervisor._keepers:
        os.kill(pid, signal.SIGTERM)


def name(call) -> str:
    try:
        return str(call())
    except (Ended, TooLong) as error:
        return type(error).__name__


def main() -> None:
    keeper.adopt_orphans()
    start_forkserver("tests.helpers")
    with scratch_folder("probe-") as folder:
        told = []
        status = run(sends, folder, told=told.append)
        print(f"sends {told} and ends with {status}")
        print(f"not listened to, it ends with {run(sends, folder)}")
        print(f"ended by a signal: {run(breaks, folder)}")
        run(ends_politely, folder, told=ask_once)
        print(f"asked to end, it does so by itself: {(folder / 'polite').exists()}")
        print(f"or is ended: {run(does_not_end, folder, told=ask_once)}")
        supervisor.GRACE = 0
        print(f"its time is over: {name(lambda: run(stops_its_keeper, folder, limit=0.1))}")
        print(f"its keeper is killed: {run(kills_its_keeper, folder)}, {left(folder)}")
        asleep = threading.Barrier(3)
        with ThreadPoolExecutor(2) as pool:
            calls = [
                pool.submit(run, sleeps, folder, told=lambda _: asleep.wait()) for _ in range(2)
            ]
            asleep.wait()
            end_all()
            names = ", ".join(name(call.result) for call in calls)
        print(f"two are ended from another thread: {names}")
        print(f"none starts after that: {name(lambda: run(sends, folder))}")


def above() -> None:
    """What a process leaves that kills all above it but the command."""
    keeper.adopt_orphans()
    start_forkserver("tests.helpers")
    with scratch_folder("probe-") as folder:
        print(f"they are killed: {run(kills_its_keeper_and_the_one_above, folder)}")
        end_forkserver()
        print(f"after the command's end: {left(folder)}")


if __name__ == "__main__":
    above() if "above" in sys.argv else main()
