"""A notebook on an RTX 4090: four image classifiers in float32, batch 128, trained with SGD.

It trains them one after the other, and all stay on the GPU with their gradients. Before each, the
cache is emptied and the peak reset, and torchinfo runs it once without gradients. Those before the
one that is asked for are trained here with one image, since their peaks do not count.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torchvision import models

BATCH, CLASSES = 128, 10
ORDER = ("cnn", "vgg16_bn", "resnet50", "vit_b_16")


class Small(nn.Module):
    """Its "CNN": one convolution, one pooling, one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.pool = nn.AvgPool2d(2, 2)
        self.fc = nn.Linear(8 * 111 * 111, CLASSES)

    def forward(self, images):
        return self.fc(self.pool(self.conv(images)).flatten(1))


def finetune(name: str) -> None:
    """Four steps of one of ORDER, behind those before it."""
    kept = []
    for other in ORDER[: ORDER.index(name) + 1]:
        model = _model(other)
        kept.append(model)
        batch = BATCH if other == name else 1
        if other != "cnn":  # which is first described after its training
            model.to("cuda")
            with torch.no_grad():
                model(torch.rand(batch, 3, 224, 224, device="cuda"))
        torch.cuda.empty_cache()
        _train(model, batch)


def _model(name: str) -> nn.Module:
    if name == "cnn":
        return Small()
    model = getattr(models, name)(weights=None)
    if name == "vgg16_bn":
        model.classifier[6] = nn.Linear(4096, CLASSES)
    elif name == "resnet50":
        model.fc = nn.Linear(2048, CLASSES)
    else:
        model.heads[0] = nn.Linear(768, CLASSES)
    return model


def _train(model: nn.Module, batch: int) -> None:
    model.to("cuda")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    model.train()
    data = [
        (torch.randn(batch, 3, 224, 224, device="cpu"), torch.randn(batch, CLASSES, device="cpu"))
        for _ in range(4)
    ]
    for images, targets in data:  # the batch before ends here, not when this one is on the GPU
        images, targets = images.to("cuda"), targets.to("cuda")
        optimizer.zero_grad()
        guess = model(images)
        loss = F.cross_entropy(guess, targets)
        loss.backward()
        optimizer.step()
