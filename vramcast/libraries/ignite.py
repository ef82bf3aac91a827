"""PyTorch-Ignite: end an epoch when the loader ends, which is early here (`prediction/loaders.py`).

By itself, Ignite starts a loader again until it has had as many batches as the loader's length.
"""

from types import ModuleType

from vramcast.when_imported import when_imported


def install() -> None:
    """Let Ignite's engines end an epoch with the loader. Cannot be undone."""

    def engine(module: ModuleType) -> None:
        module.Engine._get_data_length = lambda engine, data: None

    when_imported("ignite.engine.engine", engine)
