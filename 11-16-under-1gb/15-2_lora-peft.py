"""LoRA by the library peft: adapters beside the layers, in one call.

Builds on: 11_act-checkp.py (variant)

peft freezes the model and puts layers of its own in the place of those that `target_modules` names,
here the two linear layers of each block's MLP, which hold two thirds of the weights. The new head
comes after it, and so is trained. peft keeps W and BA apart and adds their outputs (BA's times
lora_alpha / r), so that the backward pass never computes a gradient as large as W, which saves
FLOPs; there are somewhat more activations. The summed output is rounded to bfloat16, too, but for
each input differently, so that a small BA is not lost for all of them. It knows attention's packed
matrices, too, but adds BA to them before each pass and takes it away after it: in bfloat16 that
changes the frozen weights a little each time.

Run: python 11-16-under-1gb/15-2_lora-peft.py
"""

from functools import partial

import torch
import torch.nn.functional as F
from lightning import Fabric
from torch.utils.checkpoint import checkpoint
from torchmetrics import Accuracy
from torchvision.models import ViT_L_16_Weights, vit_l_16

from local_utilities import Progress, Report, check_gpus, check_packages, cifar10_loaders

check_packages("peft", extra="lora")
from peft import LoraConfig, inject_adapter_in_model


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
        inject_adapter_in_model(LoraConfig(r=16, lora_alpha=32, target_modules=".*mlp.[03]"), model)
        model.heads.head = torch.nn.Linear(model.heads.head.in_features, 10)
    for block in model.encoder.layers:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
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
