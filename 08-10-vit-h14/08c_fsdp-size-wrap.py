"""FSDP units by size: whatever holds two million parameters.

Builds on: 08b_fsdp-custom.py (variant)

Instead of a class, this policy names a number of parameters, and works for a model whose classes
one does not know; with PyTorch's default of a hundred million, no block would be large enough. In
ViT-H/14 it finds three units in each block: the attention, which FSDP never divides, and the two
linear layers behind it. Smaller units mean less gathered at a time and more, smaller all-gathers.
Memory differs little from the parent's, where one block is small already; the losses do not change.

Run: python 08-10-vit-h14/08c_fsdp-size-wrap.py
"""

from functools import partial

import torch
import torch.nn.functional as F
from lightning import Fabric
from lightning.fabric.strategies import FSDPStrategy
from torch.distributed.fsdp.wrap import size_based_auto_wrap_policy
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
    policy = partial(size_based_auto_wrap_policy, min_num_params=2_000_000)
    strategy = FSDPStrategy(auto_wrap_policy=policy)
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
