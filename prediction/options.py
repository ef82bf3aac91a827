"""What a prediction is asked for."""

from dataclasses import dataclass

from prediction import gpus


@dataclass(frozen=True)
class Options:
    """The defaults are those of the published figures."""

    gpu: gpus.Model = gpus.DEFAULT
    gpus: int = 4  # that the script finds
    batch_size: int | None = None  # in the place of the script's own
    number: tuple[int, int] | None = None  # the source's number to replace: its line and column
    adam_2023: bool = False  # Adam as in the PyTorch of the published figures
    capacity: bool = False  # whether the script fits the GPU is asked
    timeline: bool = False  # one step's course is asked for
    snapshot: bool = False  # the whole history is
    time_limit: float | None = None  # seconds
