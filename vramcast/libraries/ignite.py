"""PyTorch-Ignite: end an epoch when the loader ends, which is early here (loaders.py).

By itself, Ignite starts a loader again until it has had as many batches as the loader's length.
"""

from types import ModuleType

from vramcast.libraries.context import Context
from vramcast.when_imported import when_imported


def install(context: Context) -> None:
    """Let Ignite's engines end an epoch with the loader."""
    when_imported("ignite.engine.engine", _engine)


def _engine(module: ModuleType) -> None:
    module.Engine._get_data_length = lambda engine, data: None
