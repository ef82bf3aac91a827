"""The optimizer's step in the backward pass: a gradient lives only until it is used.

Builds on: 11_act-checkp.py

Where activations are small, the gradients are as large as the parameters, and all else is smaller.
Here each parameter has an optimizer of its own, and a hook takes its step as soon as the gradient
is complete and frees it, so that there are never more than a few. The results are the parent's and
the schedule still counts batches; the CPU makes a call for each parameter instead of one for all,
which takes longer on a slow CPU. It does not combine with what needs all gradients at once, or
several backward passes for one step: accumulation, clipping by the global norm and a GradScaler go
wrong without a message (docs/combining.md). Do without it for these, or if you want to look at the
gradients after the backward pass.

Run: python 11-16-under-1gb/12_optimizer-in-backward.py
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
