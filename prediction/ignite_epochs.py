"""PyTorch-Ignite's engines: an epoch ends where the loader does (`prediction/loaders.py`).

By themselves they take a loader's length for it, and start the loader again until that is reached.
"""

from types import ModuleType

from prediction.when_imported import when_imported


def install() -> None:
    """Let them do so. Cannot be undone."""

    def engine(module: ModuleType) -> None:
        module.Engine._get_data_length = lambda engine, data: None

    when_imported("ignite.engine.engine", engine)
