"""huggingface_hub: there is no network, so that it does not wait to try again."""

from types import ModuleType

from vramcast.libraries.context import Context
from vramcast.when_imported import when_imported


def install(context: Context) -> None:
    """Say so from the start."""
    when_imported("huggingface_hub.constants", _offline)


def _offline(module: ModuleType) -> None:
    module.HF_HUB_OFFLINE = True
