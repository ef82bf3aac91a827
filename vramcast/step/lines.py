"""The line of the script that each allocation comes from, for a look into a training step."""

import sys
from collections.abc import Callable

from vramcast.memory.storages import Storage

Place = tuple[int, str]  # a line of the script, and the function that it is in


class Lines:
    """Remembers, for each allocation on the GPU, the script's own calls, the innermost first."""

    def __init__(self, script: str, sees: Callable[[str, Storage, object], None]) -> None:
        """`sees`: called with each of the tracker's events after this has seen it."""
        self.script, self._next = script, sees
        self.places: dict[Storage, tuple[Place, ...]] = {}
        self._known: dict[tuple[Place, ...], tuple[Place, ...]] = {}  # each is kept once

    def sees(self, what: str, storage: Storage | None, other: object) -> None:
        """Called with each of the tracker's events as it happens."""
        if what == "allocate" and storage.device == "cuda":
            found, frame = [], sys._getframe(1)
            while frame is not None:
                if frame.f_code.co_filename == self.script:
                    found.append((frame.f_lineno, frame.f_code.co_name))
                frame = frame.f_back
            places = tuple(found)
            self.places[storage] = self._known.setdefault(places, places)
        self._next(what, storage, other)

    def line(self, storage: Storage) -> int | None:
        """The line of the script that an allocation comes from; None if there is none."""
        places = self.places.get(storage)
        return places[0][0] if places else None
