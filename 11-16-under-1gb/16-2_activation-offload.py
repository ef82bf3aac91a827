"""Activation offload under QLoRA: what checkpointing keeps waits in the host's memory.

Builds on: 16_qlora.py (variant)

With the weights in 4 bits, the inputs that checkpointing keeps of each block are a large part of
what is left. They are copied to the host in the forward pass and come back when their block is
recomputed, as in 14-3. The copies go over the bus twice in each step and need pinned memory on the
host; results stay the same. Expandable segments (08-2) would save 0.04 GB more. Do without it where
the bus is slow or the host is small.

Run: python 11-16-under-1gb/16-2_activation-offload.py
"""

from functools import partial

import torch
import torch.nn.functional as F
from lightning import Fabric
from torch.nn.utils import parametrize
from torch.utils.checkpoint import checkpoint
from torchmetrics import Accuracy
from torchvision.models import ViT_L_16_Weights, vit_l_16

from local_utilities import Progress, Report, check_gpus, check_packages, cifar10_loaders

check_packages("bitsandbytes", extra="lora")
from bitsandbytes.functional import dequantize_4bit, quantize_nf4


class LoRA(torch.nn.Module):
    """A frozen weight [out_features, in_features] plus a trained adapter of low rank."""

    def __init__(self, weight, rank=16):
        super().__init__()
        out_features, in_features = weight.shape
        self.a = torch.nn.Parameter(torch.randn(rank, in_features) / rank)
        self.b = torch.nn.Parameter(torch.zeros(out_features, rank))
        self.quantized = quantize_nf4(weight.data.cuda(), compress_statistics=True)

    def forward(self, empty):
        return dequantize_4bit(*self.quantized) + torch.matmul(self.b, self.a)

    def right_inverse(self, weight):
        return weight.new_empty(0)  # what is kept in the weight's place


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

    with fabric.init_module(), torch.device("cpu"):
        model = vit_l_16(weights=ViT_L_16_Weights.IMAGENET1K_V1).requires_grad_(False)
        for layer in list(model.encoder.layers.modules()):
            for name, weight in list(layer.named_parameters(recurse=False)):
                if weight.dim() == 2:
                    parametrize.register_parametrization(layer, name, LoRA(weight), unsafe=True)
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
            with torch.autograd.graph.save_on_cpu(pin_memory=True):
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
