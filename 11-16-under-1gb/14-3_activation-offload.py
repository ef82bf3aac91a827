"""Activation offload: what checkpointing keeps waits in the host's memory.

Builds on: 12_optimizer-in-backward.py (variant)

`save_on_cpu` copies each saved tensor to the host and back. Under checkpointing these are the
blocks' inputs alone, and they come back when their block is recomputed; without it, they would be
all activations and the weights, too, which is another technique and costs far more copies. The
copies go over the bus twice in each step, in the computation's own stream, which waits for them;
results stay the same. The host needs pinned memory for them, which no other process can use. It
builds on 12, where activations fill the peak: in 11 the peak is at the end of the backward pass, of
gradients. It combines with every other technique; do without it where the bus is slow or the host
is small.

Run: python 11-16-under-1gb/14-3_activation-offload.py
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
            with torch.autograd.graph.save_on_cpu(pin_memory=True):
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
