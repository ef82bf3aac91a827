"""Fused Adam: one kernel for the step, and no temporaries as large as the parameters.

Builds on: 05_gradient-accum.py (variant)

By default, PyTorch updates many tensors at a time (`foreach`), operator by operator. Most operators
work in place, but the square root of the second moment is new, for all parameters at once. While
activations set the peak, nobody sees it. Here they are small, and the step needs about as much as
the backward pass. Its tensors have other sizes, so more memory is reserved. `fused=True` computes
the whole step in one kernel, without such temporaries, and is the fastest of the three;
`foreach=False`, one parameter after the other, needs as little memory and most time. With float16
and a GradScaler, a fused step unscales the gradients itself, so Fabric refuses to clip them.

Run: python 05-2_fused-adam.py
"""

import torch
import torch.nn.functional as F
from lightning import Fabric
from torchmetrics import Accuracy
from torchvision.models import ViT_L_16_Weights, vit_l_16

from local_utilities import Progress, Report, check_gpus, cifar10_loaders


@torch.no_grad()
def evaluate(model, loader, device):
    model.eval()
    accuracy = Accuracy(task="multiclass", num_classes=10).to(device)
    for images, labels in loader:
        images = F.interpolate(images, size=224, mode="bilinear")
        accuracy.update(model(images), labels)
    return accuracy.compute().item()


if __name__ == "__main__":
    check_gpus(1)
    torch.manual_seed(123)
    torch.set_float32_matmul_precision("high")
    num_epochs = 1
    fabric = Fabric(accelerator="cuda", devices=1, precision="bf16-true")
    fabric.launch()
    report = Report(fabric)

    #########################################
    # 1. Data
    #########################################

    loaders = fabric.setup_dataloaders(*cifar10_loaders(batch_size=16))
    train_loader, val_loader, test_loader = loaders

    #########################################
    # 2. Model
    #########################################

    model = vit_l_16(weights=ViT_L_16_Weights.IMAGENET1K_V1)
    model.heads.head = torch.nn.Linear(model.heads.head.in_features, 10)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-5, fused=True)
    model, optimizer = fabric.setup(model, optimizer)
    report.model_created()

    #########################################
    # 3. Finetuning
    #########################################

    for epoch in range(1, num_epochs + 1):
        model.train()
        progress = Progress(train_loader, f"Epoch {epoch}/{num_epochs}")
        for images, labels in progress:
            batch_loss = 0.0
            for micro_images, micro_labels in zip(images.split(4), labels.split(4)):
                micro_images = F.interpolate(micro_images, size=224, mode="bilinear")
                loss = F.cross_entropy(model(micro_images), micro_labels)
                share = len(micro_labels) / len(labels)
                fabric.backward(share * loss)
                batch_loss += share * loss.detach()
            progress.show(batch_loss)
            optimizer.step()
            optimizer.zero_grad()
        val_accuracy = evaluate(model, Progress(val_loader, "Validation"), fabric.device)
        report.end_epoch(progress, val_accuracy)

    #########################################
    # 4. Test
    #########################################

    test_accuracy = evaluate(model, Progress(test_loader, "Test"), fabric.device)
    report.finish(test_accuracy)
