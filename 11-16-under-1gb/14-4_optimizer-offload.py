"""Optimizer offload: AdamW's states lie on the host, and the step is computed there.

Builds on: 11_act-checkp.py (variant)

Each gradient is copied to the host as soon as the backward pass has it, and each updated parameter
comes back after the step, so that AdamW needs no more of the GPU than SGD did. In return the host
holds four times the parameters' memory (pinned copies of parameters and gradients, and the two
optimizer states), and the GPU waits while the CPU computes the step. It combines with accumulation
and schedules, not with clipping or a GradScaler, which change gradients whose copies were made
before. With `offload_gradients=True` each gradient is freed once its copy has arrived: how much
that saves depends on the bus, and accumulation is then wrong. Do without it where SGD or Adafactor
(06-2) learns as well.

Run: python 11-16-under-1gb/14-4_optimizer-offload.py
"""

from functools import partial

import torch
import torch.nn.functional as F
from lightning import Fabric
from torch.utils.checkpoint import checkpoint
from torchmetrics import Accuracy
from torchvision.models import ViT_L_16_Weights, vit_l_16

from local_utilities import Progress, Report, check_gpus, check_packages, cifar10_loaders

check_packages("torchao", extra="torchao")
from torchao.optim import CPUOffloadOptimizer


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

    with fabric.init_module():
        model = vit_l_16(weights=ViT_L_16_Weights.IMAGENET1K_V1)
        model.heads.head = torch.nn.Linear(model.heads.head.in_features, 10)
    for block in model.encoder.layers:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    optimizer = CPUOffloadOptimizer(model.parameters(), lr=5e-5)
    steps = num_epochs * len(train_loader)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    model, optimizer = fabric.setup(model, optimizer)
    report.model_created()

    #########################################
    # 3. Finetuning
    #########################################

    for epoch in range(1, num_epochs + 1):
        model.train()
        progress = Progress(train_loader, f"Epoch {epoch}/{num_epochs}")
        for images, labels in progress:
            images = F.interpolate(images, size=224, mode="bilinear")
            loss = F.cross_entropy(model(images), labels)
            progress.show(loss)
            fabric.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            scheduler.step()
        val_accuracy = evaluate(model, Progress(val_loader, "Validation"), fabric.device)
        report.end_epoch(progress, val_accuracy)

    #########################################
    # 4. Test
    #########################################

    test_accuracy = evaluate(model, Progress(test_loader, "Test"), fabric.device)
    report.finish(test_accuracy)
