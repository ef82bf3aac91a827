"""Sharding with FSDP: parameters, gradients and optimizer states spread over all GPUs.

Builds on: 08_baseline.py

Each GPU trains on batches of its own, as in ordinary data parallelism, but keeps only its shard of
the parameters, gradients and optimizer states, and updates that. By default the whole model is one
unit: an all-gather brings all parameters to every GPU before the forward pass, and a reduce-scatter
after the backward pass sums the gradients and leaves each GPU its shard. At one moment of each step
a GPU holds all parameters and all gradients, so the peak falls little. Both take time on the links
between the GPUs, and run in float16. A step sees 4 images times the number of GPUs, at an unchanged
learning rate. `rank_zero_first` lets one process of each machine download the weights for all.

Run: python 08-10-vit-h14/08a_fsdp-defaults.py
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
    check_gpus(2)
    torch.manual_seed(123)
    torch.set_float32_matmul_precision("high")
    num_epochs = 1
    fabric = Fabric(accelerator="cuda", devices="auto", strategy="fsdp", precision="16-mixed")
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

    with fabric.rank_zero_first(local=True):
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
