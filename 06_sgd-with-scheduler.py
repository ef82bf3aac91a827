"""A leaner optimizer: SGD without momentum instead of Adam, with a cosine schedule.

Builds on: 05_gradient-accum.py

Adam keeps two optimizer states per parameter, and its step makes parameter-sized temporaries; plain
SGD needs neither. With small micro-batches that is a large part of the memory. Adam also gives each
parameter a step size of its own; a larger learning rate that falls along a cosine to zero over the
steps of the training partly makes up for that. Finetuning a well pretrained model does not mind;
training from scratch would. Time hardly changes, since forward and backward passes take nearly all
of it.

Run: python 06_sgd-with-scheduler.py
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
