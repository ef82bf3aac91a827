"""One FSDP unit per block: parameters are gathered block by block.

Builds on: 08a_fsdp-defaults.py

With each `EncoderBlock` a unit of its own, FSDP all-gathers a block's parameters just before they
are needed, in the forward and again in the backward pass, and frees them right after. At any time a
GPU holds its shard and one or two whole blocks, and gradients are reduce-scattered as soon as a
block has them. The next block's parameters travel while this one computes, which hides most of the
cost. The losses do not change.

Run: python 08-10-vit-h14/08b_fsdp-custom.py
"""

import torch
import torch.nn.functional as F
from lightning import Fabric
from lightning.fabric.strategies import FSDPStrategy
from torchmetrics import Accuracy
from torchvision.models import ViT_H_14_Weights, vit_h_14
from torchvision.models.vision_transformer import EncoderBlock

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
    strategy = FSDPStrategy(auto_wrap_policy={EncoderBlock})
    fabric = Fabric(accelerator="cuda", devices="auto", strategy=strategy, precision="16-mixed")
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
