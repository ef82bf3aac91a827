"""LoRA and QLoRA: what is frozen stays, and what is trained is a difference of low rank.

Libraries that take seconds to import are imported where they are used.
"""

import runpy

import pytest
import torch
import torch.nn.functional as F
from torch.nn.utils import parametrize

from ladder.rungs import ROOT
from tests import warm

FOLDER = "11-16-under-1gb/"


@pytest.mark.parametrize("name", ["15_lora", "15-2_lora-peft", "16_qlora"])
def test_what_is_frozen_is_the_same_after_training(tmp_path, name):
    out = tmp_path / "seen.pt"
    process = warm.run("-m", "tests.probes.training", f"{FOLDER}{name}.py", 43, "own", out,
                       DATA_DIR=str(tmp_path), RESULTS_DIR=str(tmp_path))  # fmt: skip
    assert process.returncode == 0, process.stderr
    first, last = torch.load(out)["frozen"]
    assert sum(tensor.numel() for tensor in first) > 400_000
    assert all(torch.equal(one, other) for one, other in zip(first, last, strict=True))


def test_a_step_is_that_of_two_products():
    """y = xW' + (xA')B', with the same step of A and B, in float32."""
    lora_of = runpy.run_path(str(ROOT / f"{FOLDER}15_lora.py"))["LoRA"]
    torch.manual_seed(0)
    layer, images, wanted = (
        torch.nn.Linear(48, 32, bias=False),
        torch.randn(9, 48),
        torch.randn(9, 32),
    )
    weight = layer.weight.detach().clone()
    parametrize.register_parametrization(
        layer, "weight", lora_of(layer.weight.requires_grad_(False))
    )
    lora = layer.parametrizations.weight[0]
    torch.nn.init.normal_(lora.b)
    a, b = (p.detach().clone().requires_grad_() for p in (lora.a, lora.b))
    for output, parameters in (
        (layer(images), [lora.a, lora.b]),
        (images @ weight.T + images @ a.T @ b.T, [a, b]),
    ):
        F.mse_loss(output, wanted).backward()
        torch.optim.SGD(parameters, lr=0.1).step()
    torch.testing.assert_close(lora.a, a)
    torch.testing.assert_close(lora.b, b)
    assert layer.parametrizations.weight.original.grad is None


def test_weights_of_4_bits_are_as_near_as_their_16_values_allow():
    """Of each block of 64, half the widest gap of values, the scale's error and bfloat16's."""
    from bitsandbytes.functional import dequantize_4bit, dequantize_blockwise, quantize_nf4

    torch.manual_seed(0)
    weight = torch.randn(256, 512, dtype=torch.bfloat16) / 20
    codes, state = quantize_nf4(weight, compress_statistics=True)
    assert codes.numel() == weight.numel() / 2
    got = dequantize_4bit(codes, state).float().view(-1, 64)
    largest = weight.float().view(-1, 64).abs().amax(1)
    scales = dequantize_blockwise(state.absmax, state.state2) + state.offset
    gap = state.code.sort().values.diff().max() / 2
    error = (got - weight.float().view(-1, 64)).abs().amax(1)
    assert (error <= gap * largest + (scales - largest).abs() + largest / 256).all()
    assert error.mean() > 0  # they are not the same


def test_peft_lets_attentions_frozen_weights_drift_in_bfloat16():
    """As 15-2's lesson says; not so in float32 to its rounding, nor where the layer is a Linear."""
    from peft import LoraConfig, inject_adapter_in_model

    torch.manual_seed(0)
    model = torch.nn.ModuleDict(
        {"attention": torch.nn.MultiheadAttention(64, 4), "mlp": torch.nn.Linear(64, 64)}
    ).bfloat16()
    inject_adapter_in_model(LoraConfig(r=16, target_modules=["attention", "mlp"]), model)
    frozen = {n: p.detach().clone() for n, p in model.named_parameters() if not p.requires_grad}
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.02)
    x = torch.randn(5, 2, 64).bfloat16()
    for _ in range(20):
        model["attention"](x, x, x)[0].sum().backward()
        model["mlp"](x).sum().backward()
    moved = {
        n for n, p in model.named_parameters() if n in frozen and not torch.equal(p, frozen[n])
    }
    assert any("in_proj_weight" in name for name in moved)
    assert not any("mlp" in name for name in moved)
