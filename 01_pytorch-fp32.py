"""Plain PyTorch in float32: the trunk that all other scripts are measured against.

Builds on: nothing

Every number is a float32, 4 bytes: the parameters, their gradients, Adam's two optimizer states per
parameter (the moments: moving averages of the gradient and of its square), and the activations that
the forward pass keeps for the backward pass. At batch 64 the activations take by far the most
memory, which is why batch size and precision come first on this ladder and the optimizer later.
Matrix products may use the GPU's TF32 tensor cores (`set_float32_matmul_precision`), here and in
all later scripts, so that no later gain in speed is TF32's.

Run: python 01_pytorch-fp32.py
"""

import torch
import torch.nn.functional as F
from torchmetrics import Accuracy
from torchvision.models import ViT_L_16_Weights, vit_l_16

from local_utilities import Progress, Report, check_gpus, cifar10_loaders


@torch.no_grad()
def evaluate(model, loader, device):
    model.eval()
    accuracy = Accuracy(task="multiclass", num_classes=10).to(device)
    for images, labels in loader:
        images, labels = images.to(device), labels.to(device)
        images = F.interpolate(images, size=224, mode="bilinear")
        accuracy.update(model(images), labels)
    return accuracy.compute().item()


if __name__ == "__main__":
    check_gpus(1)
    torch.manual_seed(123)
    torch.set_float32_matmul_precision("high")
    num_epochs = 1
    device = torch.device("cuda")
    report = Report()

    #########################################
    # 1. Data
    #########################################

    train_loader, val_loader, test_loader = cifar10_loaders(batch_size=64)

    #########################################
    # 2. Model
    #########################################

    model = vit_l_16(weights=ViT_L_16_Weights.IMAGENET1K_V1)
    model.heads.head = torch.nn.Linear(model.heads.head.in_features, 10)
    model.to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-5)
    report.model_created()

    #########################################
    # 3. Finetuning
    #########################################

    for epoch in range(1, num_epochs + 1):
        model.train()
        progress = Progress(train_loader, f"Epoch {epoch}/{num_epochs}")
        for images, labels in progress:
            images, labels = images.to(device), labels.to(device)
            images = F.interpolate(images, size=224, mode="bilinear")
            loss = F.cross_entropy(model(images), labels)
            progress.show(loss)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        val_accuracy = evaluate(model, Progress(val_loader, "Validation"), device)
        report.end_epoch(progress, val_accuracy)

    #########################################
    # 4. Test
    #########################################

    test_accuracy = evaluate(model, Progress(test_loader, "Test"), device)
    report.finish(test_accuracy)
