"""Lightning and Fabric: the other ranks are not started as processes, and demos fetch no text.

The package is called lightning, or lightning_fabric where its parts are installed by themselves.
"""

import os
from types import ModuleType

import torch

from vramcast.libraries.context import Context
from vramcast.when_imported import when_imported

WIKITEXT = (33_278, 2_088_628)  # words and tokens of WikiText-2's training part, with <eos>


def install(context: Context) -> None:
    """Let Fabric's launcher start nothing, and take any port for free."""

    def demos(module: ModuleType) -> None:
        read = module.tokenize

        def tokenize(path):
            if os.path.exists(path):
                return read(path)
            words, tokens = WIKITEXT
            dictionary = module.Dictionary()
            for number in range(words):
                dictionary.add_word(f"word{number}")
            context.notes.append(f"in the place of WikiText-2: {tokens:,} tokens, {words:,} words")
            return torch.zeros(tokens, dtype=torch.int64), dictionary

        module.WikiText2.download, module.tokenize = staticmethod(lambda path: None), tokenize

    for package in ("lightning.pytorch", "pytorch_lightning"):
        when_imported(f"{package}.demos.transformer", demos)
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
