"""Creation on the GPU: the model is built where it is used, in its final precision.

Builds on: 06_sgd-with-scheduler.py

Without `init_module`, the model is built as float32 in the host's memory, filled with random
numbers that the pretrained weights then overwrite, converted to bfloat16 and copied to the GPU.
Inside `fabric.init_module()` every parameter is a bfloat16 on the GPU from the start, and the
pretrained weights are copied straight into it, so the host never holds the float32 model beside
the file's weights. On the GPU the parent needs no more than this script, because Fabric converts
before it copies; a plain `model.to("cuda")` of the float32 model takes twice as much. The training
is that of the parent, except for the head's random numbers, now drawn as bfloat16 on the GPU.

Run: python 07_init-module.py
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

    with fabric.init_module():
        model = vit_l_16(weights=ViT_L_16_Weights.IMAGENET1K_V1)
        model.heads.head = torch.nn.Linear(model.heads.head.in_features, 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
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
            scheduler.step()
        val_accuracy = evaluate(model, Progress(val_loader, "Validation"), fabric.device)
        report.end_epoch(progress, val_accuracy)

    #########################################
    # 4. Test
    #########################################

    test_accuracy = evaluate(model, Progress(test_loader, "Test"), fabric.device)
    report.finish(test_accuracy)
