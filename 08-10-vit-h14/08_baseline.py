"""A larger model: ViT-H/14 with images of 518 px, on one GPU.

Builds on: 02_mixed-precision.py

This part of the ladder starts again from 02, with Adam and float32 parameters, because they are
what the next scripts shard across GPUs. The weights were finetuned end to end at this resolution,
so each image becomes 1,370 tokens instead of 197, and the batch shrinks to 4. With 632 million
parameters, the part that does not depend on the batch is large: parameters, gradients and two
optimizer states, in float32 each.

Run: python 08-10-vit-h14/08_baseline.py
"""

import torch
import torch.nn.functional as F
from lightning import Fabric
from torchmetrics import Accuracy
from torchvision.models import ViT_H_14_Weights, vit_h_14

from local_utilities import Progress, Report, check_gpus, cifar10_loaders


@torch.no_grad()
def evaluate(model, loader, device):
    model.eval()
    accuracy = Accuracy(task="multiclass", num_classes=10).to(device)
    for images, labels in loader:
        images = F.interpolate(images, size=518, mode="bilinear")
        accuracy.update(model(images), labels)
    return accuracy.compute().item()


if __name__ == "__main__":
    check_gpus(1)
    torch.manual_seed(123)
    torch.set_float32_matmul_precision("high")
    num_epochs = 1
    fabric = Fabric(accelerator="cuda", devices=1, precision="16-mixed")
    fabric.launch()
    report = Report(fabric)

    #########################################
    # 1. Data
    #########################################

    loaders = fabric.setup_dataloaders(*cifar10_loaders(batch_size=4))
    train_loader, val_loader, test_loader = loaders

    #########################################
    # 2. Model
    #########################################

    model = vit_h_14(weights=ViT_H_14_Weights.IMAGENET1K_SWAG_E2E_V1)
    model.heads.head = torch.nn.Linear(model.heads.head.in_features, 10)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-5)
    model, optimizer = fabric.setup(model, optimizer)
    report.model_created()

    #########################################
    # 3. Finetuning
    #########################################

    for epoch in range(1, num_epochs + 1):
        model.train()
        progress = Progress(train_loader, f"Epoch {epoch}/{num_epochs}")
        for images, labels in progress:
            images = F.interpolate(images, size=518, mode="bilinear")
            loss = F.cross_entropy(model(images), labels)
            progress.show(loss)
            optimizer.zero_grad()
            fabric.backward(loss)
            optimizer.step()
        val_accuracy = evaluate(model, Progress(val_loader, "Validation"), fabric.device)
        report.end_epoch(progress, val_accuracy)

    #########################################
    # 4. Test
    #########################################

    test_accuracy = evaluate(model, Progress(test_loader, "Test"), fabric.device)
    report.finish(test_accuracy)
