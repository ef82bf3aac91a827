"""What the stand-ins of one prediction know in common."""

from dataclasses import dataclass, field
from pathlib import Path

from vramcast.cost.counter import Cost
from vramcast.loops.watched import Watched
from vramcast.memory.tracker import Tracker
from vramcast.options import Options


@dataclass
class Loaders:
    """What a prediction learns of a script's loaders."""

    batch_size: int | None = None  # the first one's own
    samples: int | None = None  # in its data set, where that says so


@dataclass(frozen=True)
class Context:
    """What was asked, and where the stand-ins write down what they see."""

    script: Path
    options: Options
    tracker: Tracker
    watched: Watched
    cost: Cost
    loaders: Loaders = field(default_factory=Loaders)

    @property
    def notes(self) -> list[str]:
        """Sentences for the answer, on what is not known or was assumed."""
        return self.watched.notes
