"""Lightning and Fabric: the other ranks are not started as processes.

The package is called lightning, or lightning_fabric where its parts are installed by themselves.
"""

import os
from types import ModuleType

from vramcast.libraries.context import Context
from vramcast.when_imported import when_imported


def install(context: Context) -> None:
    """Let Fabric's launcher start nothing, and take any port for free."""
    for package in ("lightning.fabric", "lightning_fabric"):
        when_imported(f"{package}.plugins.environments.lightning", _environment)
        when_imported(f"{package}.strategies.launchers.subprocess_script", _launcher)


def _environment(module: ModuleType) -> None:
    module.find_free_network_port = lambda: 29500


def _launcher(module: ModuleType) -> None:
    module._launch_process_observer = lambda processes: None
    module._SubprocessScriptLauncher._call_children_scripts = _start_nothing


def _start_nothing(launcher) -> None:
    os.environ |= {"LOCAL_RANK": "0", "NODE_RANK": "0", "WORLD_SIZE": str(launcher.num_processes)}
