"""Token dropping: in training, the blocks see half of the patches.

Builds on: 13_batch-64.py (variant)

Neighbouring patches tell much the same, so half of them are enough to learn from (PatchDropout, Liu
et al. 2022; there drawn for each image, here for each batch). It saves memory and time: the blocks'
activations halve, and about half of the FLOPs are left. Three things matter: the class token stays,
since the head reads it; positions are added before patches are dropped; and at evaluation all
patches are there, which then needs as much memory as a training step. It costs accuracy: six
percentage points in a rehearsal, of 21 steps, and more where the object is small. It combines with
whatever the parent does.

Run: python 11-16-under-1gb/13-2_token-dropping.py
"""

from functools import partial

import torch
import torch.nn.functional as F
from lightning import Fabric
from torch.utils.checkpoint import checkpoint
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

    loaders = fabric.setup_dataloaders(*cifar10_loaders(batch_size=64))
    train_loader, val_loader, test_loader = loaders

    #########################################
    # 2. Model
    #########################################

    with fabric.init_module():
        model = vit_l_16(weights=ViT_L_16_Weights.IMAGENET1K_V1)
        model.heads.head = torch.nn.Linear(model.heads.head.in_features, 10)

    def keep_half(layers, inputs):
        (tokens,) = inputs  # [B, 1 + P, C]: the class token, then the patches with their positions
        if layers.training:
            patches = tokens.shape[1] - 1
            kept = 1 + torch.randperm(patches, device=tokens.device)[: patches // 2]
            tokens = torch.cat([tokens[:, :1], tokens[:, kept]], dim=1)
        return tokens

    model.encoder.layers.register_forward_pre_hook(keep_half)
    for block in model.encoder.layers:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    optimizers = {p: torch.optim.SGD([p], lr=0.01) for p in model.parameters()}
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
