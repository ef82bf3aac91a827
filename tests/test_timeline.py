"""--timeline: a picture of one training step, and what holds its peak."""

import json

import pytest

from tests.warm import predict, predicted

LAYERS = """
import torch

layers = torch.nn.Sequential(*[torch.nn.Linear(512, 512) for _ in range(4)]).cuda()
optimizer = torch.optim.SGD(layers.parameters())


def forward(x):
    return layers(x).exp()  # each result: 1,024 by 512 numbers of 4 bytes


for _ in range(4):
    loss = forward(torch.ones(1024, 512, device="cuda")).sum()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
"""


def test_a_timeline_is_drawn(tmp_path):
    figure, script = tmp_path / "step.png", tmp_path / "script.py"
    script.write_text(LAYERS)
    process = predict(script, "--timeline", figure)
    assert process.returncode == 0, process.stderr
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_a_timeline_says_what_holds_the_peak(tmp_path):
    """The last layer's backward pass holds most: the results of those before it, and gradients."""
    figure, script = tmp_path / "step.svg", tmp_path / "script.py"
    script.write_text(LAYERS)
    process = predict(script, "--timeline", figure)
    assert process.returncode == 0, process.stderr
    source = LAYERS.splitlines()
    within = next(number for number, line in enumerate(source, 1) if "layers(x)" in line)
    backward = next(number for number, line in enumerate(source, 1) if "backward()" in line)
    printed = process.stdout.splitlines()
    (peak,) = [line for line in printed if "the step's peak" in line]
    assert peak.endswith(f"backward, 3 (Linear), line {backward}")
    held = [line for line in printed if "activations held then" in line]
    assert held[0].endswith(f": 3 × 0.0021 GB, addmm, * (Linear), line {within}")
    assert len(held) <= 3
    assert "<svg" in figure.read_text()


def test_a_timelines_figures_are_written_without_a_picture(tmp_path):
    figures, script = tmp_path / "step.json", tmp_path / "script.py"
    script.write_text(LAYERS)
    row = predicted(script, "--timeline", figures)
    step = json.loads(figures.read_text())
    assert max(sum(sizes.values()) for _, sizes in step["course"]) == step["peak"]["bytes"]
    assert step["peak"]["bytes"] == pytest.approx(row["allocated_gb"] * 1e9)
    assert row["notes"] == []
