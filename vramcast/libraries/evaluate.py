"""Metrics of the Hugging Face hub: every score is 0.5."""

from types import ModuleType

from vramcast.libraries.context import Context
from vramcast.when_imported import when_imported


def install(context: Context) -> None:
    """Replace what `evaluate` would load from the hub."""
    when_imported("evaluate.loading", _loading)


def _loading(module: ModuleType) -> None:
    module.load = lambda *args, **options: Metric()


class Metric:
    """In the place of a metric: it takes any input."""

    def add(self, *args, **options) -> None:
        pass

    add_batch = add

    def compute(self, *args, **options) -> dict[str, float]:
        return Scores(accuracy=0.5)


class Scores(dict):
    """A dictionary of scores that has a score under every name."""

    def __missing__(self, name: str) -> float:
        return 0.5
