"""torch.hub: of weights that are not here, a stand-in that every model takes."""

import os
from pathlib import Path
from urllib.parse import urlparse

import torch

from vramcast import compat
from vramcast.libraries.context import Context
from vramcast.libraries.example_data import NotHere

OWN = ("trust_repo", "force_reload", "verbose", "skip_validation")  # options of `torch.hub.load`


class Weights(dict):
    """In the place of a file of weights. Its names are not known, so it seems to have none."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url

    def __missing__(self, name: str) -> "Weights":
        return self  # a checkpoint's part, as ["model"]

    def get(self, name: str, default: object = None) -> object:
        return self if default is None else default

    def pop(self, name: str, default: object = None) -> object:
        return default

    def __delitem__(self, name: str) -> None:
        pass

    def copy(self) -> "Weights":
        return self

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):  # a question of Python's
            raise AttributeError(name)
        raise NotHere(f"what {self._url} holds is not known, since it is not here")


def install(context: Context) -> None:
    """Read what is in torch.hub's folder; let models load the stand-in for other weights."""
    from_url, load = torch.hub.load_state_dict_from_url, torch.hub.load
    names = torch.hub.list
    into, handed = torch.nn.Module.load_state_dict, []

    def load_state_dict_from_url(url, model_dir=None, *args, file_name=None, **kwargs):
        folder = model_dir or os.path.join(torch.hub.get_dir(), "checkpoints")
        name = file_name or os.path.basename(urlparse(url).path)
        if os.path.exists(os.path.join(folder, name)):
            return from_url(url, model_dir, *args, file_name=file_name, **kwargs)
        handed.append(url)
        context.notes.append(
            f"the weights {name} are not here: they count as those of the model that loads them"
        )
        return Weights(url)

    def load_state_dict(model, state_dict, *args, **kwargs):
        if not isinstance(state_dict, Weights) and (state_dict or not handed):
            return into(model, state_dict, *args, **kwargs)
        file = [  # of float32, on the host meanwhile; also if the script has chosen some of them
            torch.empty(value.shape, dtype=torch.float32, device="cpu")
            for value in model.state_dict().values()
        ]
        del file
        return compat.IncompatibleKeys([], [])

    def download_url_to_file(url, dst, *args, **kwargs):
        raise NotHere(f"{url} is not here; once it is downloaded to {dst}, it is read there")

    def hub_list(github, *args, **kwargs):
        if _here(github):
            return names(github, *args, **kwargs)
        context.notes.append(f"the repository {github} is not here: it seems to have no models")
        return []

    def hub_load(repo_or_dir, model, *args, source="github", **kwargs):
        name = str(repo_or_dir).partition(":")[0]
        if source == "github" and not _here(name):
            if name == "pytorch/vision":
                import torchvision.models  # whose hub this is

                own = {key: value for key, value in kwargs.items() if key not in OWN}
                return getattr(torchvision.models, model)(*args, **own)
            raise NotHere(
                f"the repository {name} is not here; it is read from {torch.hub.get_dir()} once "
                "torch.hub.load was called where there is a network"
            )
        return load(repo_or_dir, model, *args, source=source, **kwargs)

    torch.hub.list = hub_list
    torch.hub.load_state_dict_from_url = load_state_dict_from_url
    torch.hub.download_url_to_file, torch.hub.load = download_url_to_file, hub_load
    torch.nn.Module.load_state_dict = load_state_dict


def _here(repository: str) -> bool:
    """Whether a repository of GitHub's, as "owner/name:branch", is in torch.hub's folder."""
    name = repository.partition(":")[0].replace("/", "_")
    return any(Path(torch.hub.get_dir()).glob(f"{name}_*"))
