"""4-bit AdamW: two numbers share a byte.

Builds on: 14_adamw-8bit.py (variant)

The optimizer states take half of the parent's memory, with a scale for each block of 128. Four bits
tell only 16 values apart, so single steps are coarser, and the kernels have more to do; in
rehearsals the accuracy is about that of 8 bits. It combines with what its parent combines with. Use
8 bits where they fit: less is known about how large models learn with 4.

Run: python 11-16-under-1gb/14-2_adamw-4bit.py
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
from torchao.optim import AdamW4bit


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
    optimizers = {
        p: AdamW4bit([p], lr=5e-5, bf16_stochastic_round=True) for p in model.parameters()
    }
    steps = num_epochs * len(train_loader)
    schedulers = [
        torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
        for optimizer in optimizers.values()
    ]
    model = fabric.setup(model)

    def update(parameter):
        optimizers[parameter].step()
        optimizers[parameter].zero_grad()

    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(update)
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
            for scheduler in schedulers:
                scheduler.step()
        val_accuracy = evaluate(model, Progress(val_loader, "Validation"), fabric.device)
        report.end_epoch(progress, val_accuracy)

    #########################################
    # 4. Test
    #########################################

    test_accuracy = evaluate(model, Progress(test_loader, "Test"), fabric.device)
    report.finish(test_accuracy)
