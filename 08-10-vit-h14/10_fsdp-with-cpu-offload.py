"""CPU offload: parameters and optimizer states live in the host's memory.

Builds on: 09_fsdp-act-checkp.py

Each GPU's shard of the parameters, gradients and optimizer states stays in the host's memory; a
block's parameters travel to the GPU when it is their turn, and its gradients back. Adam's step runs
on the CPU. What remains on the GPU are one or two blocks, every block's input and the activations
of one. The copies in both directions and the slow step cost far more time than any other technique:
this is for a model that fits in no other way, or for a host with fast links. The host has to have
the memory instead.

Run: python 08-10-vit-h14/10_fsdp-with-cpu-offload.py
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
    strategy = FSDPStrategy(
        auto_wrap_policy={EncoderBlock},
        activation_checkpointing_policy={EncoderBlock},
        cpu_offload=True,
    )
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
