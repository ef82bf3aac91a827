"""What one training step costs besides memory: arithmetic, kernels, and bytes over the links.

Counted while a prediction runs, from the shapes of each operator, for one steady step: from one
optimizer step to the next, with no loader beginning or ending in between. The figures say what the
script gives the GPU to do. How long that takes is not known, only a lower bound: the rates in the
GPU's data sheet.
"""

from vramcast.cost.rules import Counts, Rule
from vramcast.gpus import Model
from vramcast.memory.tracker import Tracker


class Cost:
    """Counts of the current step, and of the last whole one (None before there was one)."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self.now, self.step = Counts(), None
        self._steps = 0  # optimizer steps that are counted
        self._whole = False

    def count(self, rule: Rule, args: tuple, kwargs: dict, result: object) -> None:
        """Count one operator according to its rule."""
        if self._steps != self.tracker.steps:
            self._close()
        rule(self.now, args, kwargs, result)

    def kernel(self) -> None:
        """Count a kernel that was generated."""
        if self._steps != self.tracker.steps:
            self._close()
        self.now.kernels += 1

    def batch(self, samples: int, epoch: int) -> None:
        """A loader gives a batch of so many samples, of `epoch` samples for this GPU in all."""
        if self._steps != self.tracker.steps:
            self._close()
        self.now.samples += samples
        self.now.epoch = epoch

    def interrupt(self) -> None:
        """A loader begins or ends (as in an evaluation), so the current step is no whole step."""
        if self._steps != self.tracker.steps:
            self._close()
        self.now, self._whole = Counts(), False

    def _close(self) -> None:
        self._steps = self.tracker.steps
        if self._whole and not self.now.samples:
            return  # the second of several steps with one batch: both are one
        if self._whole:
            self.step = self.now
        self.now, self._whole = Counts(), True

    def result(self, model: Model, gpus: int = 1) -> dict | None:
        """A step's cost and the least minutes of an epoch on GPUs; None if no step was whole.

        Also None for a script without a loader, which has no samples and no epoch. GB are 1e9
        bytes, TFLOP 1e12 operations; an epoch is the training without validation.
        """
        if self._steps != self.tracker.steps:
            self._close()
        step = self.step
        if step is None or not step.samples:
            return None
        return {
            "samples_per_step": step.samples,
            "tflop_per_sample": {
                precision: number / 1e12 / step.samples
                for precision, number in step.operations.items()
            },
            "kernels_per_sample": step.kernels / step.samples,
            "to_gpu_gb_per_step": step.to_gpu / 1e9,
            "to_host_gb_per_step": step.to_host / 1e9,
            "between_gpus_gb_per_step": step.between / 1e9,
            "least_minutes_per_epoch": least_minutes(step, model, gpus),
        }

    def emulated(self, model: Model) -> bool:
        """Whether a step computes in bfloat16, and the GPU does not."""
        return not model.bfloat16 and (self.step or self.now).operations["bfloat16"] > 0

    def mostly_convolutions(self) -> bool:
        """Whether convolutions are most of a step's arithmetic."""
        step = self.step or self.now
        return step.convolved > step.operations.total() / 2


def least_minutes(step: Counts, model: Model, gpus: int = 1) -> dict[str, float]:
    """The least minutes of an epoch, by each thing that limits it: arithmetic and the links.

    All of them can be busy at the same time, in both directions, so the largest figure is the
    bound. Left out is what the data sheet gives no rate for. Of several GPUs, each may have an
    equal part of the work, at least.
    """
    speed, steps = model.speed, step.epoch / step.samples / gpus
    seconds = {
        "arithmetic": sum(
            number / (speed.tflops[precision] * 1e12)
            for precision, number in step.operations.items()
            if precision in speed.tflops
        ),
        "host link": max(step.to_gpu, step.to_host) / (speed.host * 1e9),
        "GPU link": step.between / (speed.gpus * 1e9),
    }
    return {what: steps * value / 60 for what, value in seconds.items()}
