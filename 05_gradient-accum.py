"""Gradient accumulation: the batch of 16 in micro-batches of 4, and one step for all of them.

Builds on: 04-2_free-gradients.py

Each micro-batch runs forward and backward by itself, so only a quarter of the activations exists
at a time, and its gradients are added to those already there. Weighted by its share of the batch,
the sum is the gradient of the whole batch, also for the shorter batch at the end of an epoch: the
training is that of the parent up to rounding (a model with batch norm would differ). The gradients
have to stay through the later micro-batches' forward passes, which takes back what the parent
saved. Four small passes use the GPU less well than one larger one, and that costs a lot of time.

Run: python 05_gradient-accum.py
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
