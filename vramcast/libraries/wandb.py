"""wandb: nothing is logged, so that it starts no program of its own and asks for no account."""

import os
from types import ModuleType

from vramcast.libraries.context import Context
from vramcast.when_imported import when_imported


def install(context: Context) -> None:
    """Switch it off, also for a script that asks for another mode."""
    os.environ["WANDB_MODE"] = "disabled"
    when_imported("wandb", _off)


def _off(module: ModuleType) -> None:
    init = module.init
    module.init = lambda *args, **options: init(*args, **options | {"mode": "disabled"})
