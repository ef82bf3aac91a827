"""What real steps of a script keep, counted on the CPU."""

from tests.helpers import run

SCRIPT = """
import torch
from torch import nn
layers = nn.Sequential(nn.Linear(100, 1000), nn.ReLU(), nn.Dropout(), nn.Linear(1000, 10))
optimizer = torch.optim.Adam(layers.parameters())
while True:
    optimizer.zero_grad()
    layers(torch.zeros(500, 100)).sum().backward()
    optimizer.step()
"""


def test_parameters_states_and_saved_tensors_are_counted(tmp_path):
    """Adam's two averages; the input, what ReLU and dropout give, and dropout's mask of bytes."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    process = run("-m", "benchmarks.real_steps", "--one", script)
    parameters = 4 * (101 * 1000 + 1001 * 10)
    saved = 500 * (4 * 100 + (4 + 4 + 1) * 1000)
    assert f"counted: {3 * parameters + saved}" in process.stdout.splitlines()
