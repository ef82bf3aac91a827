"""tqdm: a lock between threads. By default it is a semaphore, which outlives a killed process."""

import threading
from types import ModuleType

from vramcast.libraries.context import Context
from vramcast.when_imported import when_imported


def install(context: Context) -> None:
    """Give tqdm such a lock."""
    when_imported("tqdm.std", _standard)


def _standard(module: ModuleType) -> None:
    module.tqdm.set_lock(threading.RLock())
