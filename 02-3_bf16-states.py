"""Optimizer states in bfloat16, parameters in float32: fused Adam computes its step in float32.

Builds on: 02-2_bf16-mixed.py (variant)

Adam keeps two states for each parameter, its moments: moving averages of the gradient and of its
square. If they are there in bfloat16 before the first step, the fused kernel reads and writes them
so, and they take half the memory; PyTorch has no option for it yet. Parameters keep their float32
precision, unlike in 03. The trap is beta2: with the usual 0.999, the second moment falls by at most
a thousandth in a step, and bfloat16 rounds away what is less than 1/512, so it would never fall.
With 0.95, as in the training of DeepSeek-V3, it does. Without `fused=True`, the step fails. And
`load_state_dict` makes the moments float32 again: cast them back after it.

Run: python 02-3_bf16-states.py
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
    fabric = Fabric(accelerator="cuda", devices=1, precision="bf16-mixed")
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

    model = vit_l_16(weights=ViT_L_16_Weights.IMAGENET1K_V1)
    model.heads.head = torch.nn.Linear(model.heads.head.in_features, 10)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-5, betas=(0.9, 0.95), fused=True)
    model, optimizer = fabric.setup(model, optimizer)
    for parameter in model.parameters():
        moment = torch.zeros_like(parameter, dtype=torch.bfloat16)
        optimizer.state[parameter] = {"exp_avg": moment, "exp_avg_sq": moment.clone()}
        optimizer.state[parameter]["step"] = torch.zeros((), device=fabric.device)
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
