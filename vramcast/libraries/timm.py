"""timm's pretrained models without their weights: the library itself knows all shapes."""

from types import ModuleType

from vramcast.libraries.context import Context
from vramcast.when_imported import when_imported


def install(context: Context) -> None:
    """Let timm create pretrained models without the hub."""
    when_imported("timm.models._builder", _builder)
    when_imported("timm.models._factory", _factory)


def _builder(module: ModuleType) -> None:
    module.load_pretrained = lambda model, *args, **options: None


def _factory(module: ModuleType) -> None:
    # by what the hub's repositories of timm are called: timm/ARCHITECTURE.WEIGHTS
    module.load_model_config_from_hf = lambda name, **options: (
        None,
        name.rpartition("/")[2].partition(".")[0],
        {},
    )
