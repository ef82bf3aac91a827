"""The options of a prediction."""

from dataclasses import dataclass

from vramcast import gpus

SEVERAL = 4  # GPUs of a training on several, if nothing says how many


@dataclass(frozen=True)
class Example:
    """What a sample consists of."""

    image: tuple[int, int, int] | None = None  # channels, height, width
    words: int | None = None  # of a text
    audio: tuple[int, int] | None = None  # samples a second, seconds

    def told(self) -> str:
        """As the option has it."""
        parts = (("images", self.image), ("tokens", self.words), ("audio", self.audio))
        return ",".join(f"{kind}:{_joined(sizes)}" for kind, sizes in parts if sizes)


def _joined(sizes: int | tuple[int, ...]) -> str:
    return "x".join(map(str, sizes)) if isinstance(sizes, tuple) else str(sizes)


@dataclass(frozen=True)
class Options:
    """What is asked about a script."""

    gpu: gpus.Model = gpus.DEFAULT
    gpus: int = 1  # that the script finds
    arguments: tuple[str, ...] = ()  # the script's own
    example: Example | None = None  # of data that is not here
    classes: int = 1000  # of the example's
    columns: tuple[str, ...] = ()  # of the example's rows, where a hub's data set is not here
    configs: tuple[tuple[str, str], ...] = ()  # files config.json by the names of models
    batches: int = 16  # of which the largest counts, where they differ
    batch_size: int | None = None  # in the place of the script's own
    batch_option: str | None = None  # the script's own option that takes it
    number: tuple[int, int] | None = None  # the source's number to replace: its line and column
    techniques: tuple[str, ...] = ()  # to apply, by their names (techniques/catalog.py)
    eager: bool = False  # as if nothing were compiled
    as_of: int | None = None  # 2023: by the rules of PyTorch of that year
    capacity: bool = False  # whether the script fits the GPU is asked
    why: bool = False  # the largest tensors at the peak are asked for, and what stays after a step
    room: bool = False  # so is the least memory in which it does
    timeline: bool = False  # one step's course is asked for
    snapshot: bool = False  # the whole history is
    time_limit: float | None = None  # seconds
