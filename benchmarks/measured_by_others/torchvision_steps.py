"""PyTorch's tutorial on the optimizer step in the backward pass: ViT-L/16, one image, float32."""

import torch
from torchvision.models import vit_l_16


def after_backward() -> None:
    """Three steps with one Adam for all parameters."""
    model = vit_l_16().cuda()
    optimizer = torch.optim.Adam(model.parameters())
    for _ in range(3):
        model(torch.rand(1, 3, 224, 224).cuda()).sum().backward()
        optimizer.step()
        optimizer.zero_grad()


def in_backward() -> None:
    """Three steps with an Adam for each parameter, as soon as its gradient is there."""
    model = vit_l_16().cuda()
    optimizers = {
        parameter: torch.optim.Adam([parameter], foreach=False) for parameter in model.parameters()
    }

    def step(parameter: torch.Tensor) -> None:
        optimizers[parameter].step()
        optimizers[parameter].zero_grad()

    for parameter in optimizers:
        parameter.register_post_accumulate_grad_hook(step)
    for _ in range(3):
        model(torch.rand(1, 3, 224, 224).cuda()).sum().backward()
