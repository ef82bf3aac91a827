"""Where in the script each allocation comes from, for somebody who looks into a step."""

import sys
from collections.abc import Callable

from prediction.storages import Storage

Place = tuple[int, str]  # a line of the script, and the function that it is in


class Lines:
    """The script's own calls at each allocation on the GPU, the innermost first."""

    def __init__(self, script: str, sees: Callable[[str, Storage, object], None]) -> None:
        """`sees` is told each of the tracker's events next."""
        self.script, self._next = script, sees
        self.places: dict[Storage, tuple[Place, ...]] = {}
        self._known: dict[tuple[Place, ...], tuple[Place, ...]] = {}  # each is kept once

    def sees(self, what: str, storage: Storage | None, other: object) -> None:
        """Told each event of the tracker's as it happens."""
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
        """The script's line that an allocation comes from; None if from none of them."""
        places = self.places.get(storage)
        return places[0][0] if places else None
