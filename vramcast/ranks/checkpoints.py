"""`torch.distributed.checkpoint`: saves no numbers, and reads none.

Each rank writes its parts of tensors by way of the host, and reads them into tensors that it has
already: neither takes memory of the GPU, but what the script's own `state_dict` takes. PyTorch's
own code would miss the parts of ranks that do not exist.
"""

import os
from collections.abc import Callable
from concurrent.futures import Future
from types import ModuleType

import torch
from torch.utils._pytree import tree_map_only

from vramcast.when_imported import when_imported

INDEX, PARTS = ".metadata", "__0_0.distcp"  # the files that there are afterwards


def install(everywhere: Callable[[Callable, Callable], None]) -> None:
    """Replace what saves and loads, once imported; `everywhere(function, other)` does that."""
    when_imported("torch.distributed.checkpoint", lambda module: _replace(module, everywhere))


def _replace(checkpoint: ModuleType, everywhere: Callable) -> None:
    saved: dict[str, dict] = {}  # what was saved, by its folder, without tensors
    stateful = checkpoint.stateful.Stateful

    def states(state_dict: dict) -> dict:
        return {
            key: value.state_dict() if isinstance(value, stateful) else value
            for key, value in state_dict.items()
        }

    def write(found: dict, folder: str | None):
        if folder is not None:
            os.makedirs(folder, exist_ok=True)
            for name in (INDEX, PARTS):
                with open(os.path.join(folder, name), "wb"):
                    pass
            saved[folder] = tree_map_only(torch.Tensor, lambda tensor: None, found)
        return checkpoint.Metadata(state_dict_metadata={})

    def save(state_dict, storage_writer=None, *args, checkpoint_id=None, **kwargs):
        return write(states(state_dict), _folder(checkpoint_id, storage_writer))

    def async_save(
        state_dict, *, checkpoint_id=None, storage_writer=None, async_stager=None, **kwargs
    ):
        staged = tree_map_only(torch.Tensor, _on_host, states(state_dict))
        done = Future()
        done.set_result(write(staged, _folder(checkpoint_id, storage_writer)))
        options = getattr(async_stager, "_config", None)
        if not getattr(options, "use_async_staging", False):
            return done
        return checkpoint.state_dict_saver.AsyncSaveResponse(done, done)

    def load(state_dict, storage_reader=None, *args, checkpoint_id=None, **kwargs):
        folder = _folder(checkpoint_id, storage_reader)
        if folder is not None and not os.path.exists(os.path.join(folder, INDEX)):
            raise FileNotFoundError(2, "No such file or directory", os.path.join(folder, INDEX))
        found = states(state_dict)
        for key, value in list(state_dict.items()):
            read = _read(found[key], saved.get(folder, {}).get(key))
            if isinstance(value, stateful):
                value.load_state_dict(read)
            else:
                state_dict[key] = read

    for name, other in (
        ("save", save), ("save_state_dict", save), ("async_save", async_save),
        ("load", load), ("load_state_dict", load),
    ):  # fmt: skip
        everywhere(getattr(checkpoint, name), other)


def _folder(given, storage) -> str | None:
    """The folder of a checkpoint: that which is given, or its writer's or reader's."""
    path = given if given is not None else getattr(storage, "path", None)
    return None if path is None else os.path.abspath(os.fspath(path))


def _on_host(tensor: torch.Tensor) -> torch.Tensor:
    """A copy on the host, as it is made before the training goes on; of a rank's part alone."""
    return getattr(tensor, "_local_tensor", tensor).detach().to("cpu", copy=True)


def _read(here, saved):
    """What is here with the saved values that are no tensors: those are read into what is here."""
    if isinstance(here, dict) and isinstance(saved, dict):
        return {key: _read(value, saved.get(key)) for key, value in here.items()}
    return here if saved is None or isinstance(here, (torch.Tensor, list)) else saved
