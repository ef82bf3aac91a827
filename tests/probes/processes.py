"""What `processes.run` makes of processes that send and end: python -m tests.probes.processes"""

import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from tests.helpers import ASLEEP
from vramcast.processes.supervisor import Ended, end_all, run, scratch_folder, start_forkserver


def sends(folder, send) -> None:
    send(1)
    send([2])
    sys.exit(3)


def breaks(folder, send) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def sleeps(folder, send) -> None:
    send("asleep")
    time.sleep(ASLEEP)


def name(call) -> str:
    try:
        return str(call())
    except Ended as error:
        return type(error).__name__


def main() -> None:
    start_forkserver("tests.helpers")
    with scratch_folder("probe-") as folder:
        told = []
        status = run(sends, folder, told=told.append)
        print(f"sends {told} and ends with {status}")
        print(f"not listened to, it ends with {run(sends, folder)}")
        print(f"ended by a signal: {run(breaks, folder)}")
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


if __name__ == "__main__":
    main()
