"""LoRA: the pretrained weights are frozen, and a low-rank adapter of each is trained.

Builds on: 11_act-checkp.py

Each weight matrix W of the encoder is frozen and used as W + BA: A has 16 rows, B 16 columns. Only
these adapters and the new head are trained, 2 % of the numbers. So gradients and optimizer states
are nearly gone, and even AdamW is nearly free; a finetuned model is a small file beside the
pretrained one. LoRA does not save activations: the backward pass goes through every block as
before, and without checkpointing each W + BA would be kept for it, too. Nor does it save FLOPs in
this form, because the gradients of A and B come from that of W + BA, which is as large as W (15-2
avoids that). In bfloat16 the sum rounds away what is smaller than about 1/500 of a weight.

Run: python 11-16-under-1gb/15_lora.py
"""

from functools import partial

import torch
import torch.nn.functional as F
from lightning import Fabric
from torch.nn.utils import parametrize
from torch.utils.checkpoint import checkpoint
from torchmetrics import Accuracy
from torchvision.models import ViT_L_16_Weights, vit_l_16

from local_utilities import Progress, Report, check_gpus, cifar10_loaders


class LoRA(torch.nn.Module):
    """A frozen weight [out_features, in_features] plus a trained adapter of low rank."""

    def __init__(self, weight, rank=16):
        super().__init__()
        out_features, in_features = weight.shape
        self.a = torch.nn.Parameter(torch.randn(rank, in_features) / rank)
        self.b = torch.nn.Parameter(torch.zeros(out_features, rank))

    def forward(self, weight):
        return weight + torch.matmul(self.b, self.a)


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
        model = vit_l_16(weights=ViT_L_16_Weights.IMAGENET1K_V1).requires_grad_(False)
        for layer in list(model.encoder.layers.modules()):
            for name, weight in list(layer.named_parameters(recurse=False)):
                if weight.dim() == 2:
                    parametrize.register_parametrization(layer, name, LoRA(weight))
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
