"""What is missing: weights and repositories of torch.hub, connections, data."""

import os

import pytest

from tests.scripts import TRAINING
from tests.test_sandbox import predict
from tests.warm import predicted

HUB = """
import os, torch, urllib.request
from torch import nn
model = nn.Linear(1000, 1000)
found = torch.hub.load_state_dict_from_url("https://somewhere/found.pt", model_dir=".")
assert found["weight"].shape == (1000, 1000)
state = torch.hub.load_state_dict_from_url("https://somewhere/weights.pth", progress=True)
for name in ("fc.weight", "fc.bias"):
    state.pop(name, None)
model.load_state_dict(state["model"], strict=False)
model.load_state_dict({key.removeprefix("module."): value for key, value in state.items()})
resnet = torch.hub.load("pytorch/vision:v0.10.0", "resnet18", pretrained=True, verbose=False)
assert sum(one.numel() for one in resnet.parameters()) == 11_689_512
assert torch.hub.list("some/where:main") == []
assert os.path.expanduser("~/x") == HOME + "/x"
try:
    urllib.request.urlopen("http://somewhere")
except urllib.error.URLError:
    pass
"""
NETWORK = "what it downloads has to be here, fetched once where there is a network"
TOLD = {  # what the script does, and the parts of the message
    "urlopen": (
        "from urllib.request import urlopen\nurlopen('http://x')", "line 3: URLError: ", NETWORK
    ),
    "session": ("import requests\nrequests.get('http://x')", "line 3: ConnectionError: ", NETWORK),
    "hub": (
        "from huggingface_hub import hf_hub_download\nhf_hub_download('a/b', 'c')",
        "line 3: LocalEntryNotFoundError: ",
        "of a hub's model --config",
    ),
    "repository": (
        "torch.hub.load('some/where', 'model')",
        "line 2: the repository some/where is not here; it is read from ",
        "/hub once torch.hub.load was called where there is a network",
    ),
    "download": (
        "torch.hub.download_url_to_file('https://x/y.bin', 'data/y.bin')",
        "line 2: https://x/y.bin is not here; ",
        "once it is downloaded to data/y.bin, it is read there",
    ),
    "folder": ("os.listdir('data')", "line 2: FileNotFoundError: ", "what a script opens by"),
    "assert": ("assert [] or 0", "line 2: AssertionError: assert [] or 0; if data is", "--example"),
    "empty": (
        "torch.utils.data.DataLoader([], shuffle=True)",
        "line 2: ValueError: num_samples should be",
        "a few files of the real sizes suffice, or --example",
    ),
}  # fmt: skip


def test_weights_that_are_not_here_are_those_of_the_model(tmp_path):
    """And those that are here are read, also from the user's own folder."""
    import torch

    torch.save(torch.nn.Linear(1000, 1000).state_dict(), tmp_path / "found.pt")
    script = tmp_path / "script.py"
    script.write_text(f"HOME = {os.path.expanduser('~')!r}\n{HUB}{TRAINING}")
    weights, hub = predicted(script)["notes"]
    assert weights.startswith("the weights weights.pth are not here: ")
    assert hub.startswith("the repository some/where:main is not here: ")


@pytest.fixture(scope="module")
def refused(tmp_path_factory) -> str:
    """What the command says of scripts for which something is missing."""
    codes = {name: code for name, (code, *_) in TOLD.items()}
    process = predict(tmp_path_factory.mktemp("missing"), codes)
    assert process.returncode == 2
    return process.stdout + process.stderr


@pytest.mark.parametrize("name", TOLD)
def test_a_message_says_what_is_missing_and_how_to_give_it(refused, name):
    (line,) = [line for line in refused.splitlines() if f"/{name}.py: " in line]
    for part in TOLD[name][1:]:
        assert part in line
