"""The simulated GPU, without data, on which a training script is run: one room for each question."""

from vramcast.api import NotPredicted, predict

__all__ = ["NotPredicted", "predict"]
