"""ZeRO stage 1: the optimizer states are sharded, and each GPU updates its share of the parameters.

Builds on: 08-3_ddp.py (variant)

Adam's two states are as large as parameters and gradients together. `ZeroRedundancyOptimizer` deals
the parameters out to the GPUs: each keeps states for its own share alone, takes the step there, and
broadcasts the result. That moves half as many bytes as DDP's all-reduce, on top of it. Parameters
and gradients stay whole on every GPU, so clipping by the norm of all gradients works as usual;
FSDP, which shards them, needs a norm over all GPUs. A tensor goes to one GPU as a whole, so shares
are not quite equal. The trap is saving: `consolidate_state_dict` has to run on all GPUs before
`state_dict` (Fabric's `save` does it), and fails if the optimizer was made while the model was on
the CPU.

Run: python 08-10-vit-h14/08-4_zero-1.py
"""

import torch
import torch.nn.functional as F
from lightning import Fabric
from torch.distributed.optim import ZeroRedundancyOptimizer
from torchmetrics import Accuracy
from torchvision.models import ViT_H_14_Weights, vit_h_14

from local_utilities import Progress, Report, check_gpus, cifar10_loaders


@torch.no_grad()
def evaluate(model, loader, device):
    model.eval()
    accuracy = Accuracy(task="multiclass", num_classes=10).to(device)
    for images, labels in loader:
        images = F.interpolate(images, size=518, mode="bilinear")
        accuracy.update(model(images), labels)
    return accuracy.compute().item()


if __name__ == "__main__":
    check_gpus(2)
    torch.manual_seed(123)
    torch.set_float32_matmul_precision("high")
    num_epochs = 1
    fabric = Fabric(accelerator="cuda", devices="auto", strategy="ddp", precision="16-mixed")
    fabric.launch()
    report = Report(fabric)

    #########################################
    # 1. Data
    #########################################

    loaders = fabric.setup_dataloaders(*cifar10_loaders(batch_size=4))
    train_loader, val_loader, test_loader = loaders

    #########################################
    # 2. Model
    #########################################

    with fabric.rank_zero_first(local=True):
        model = vit_h_14(weights=ViT_H_14_Weights.IMAGENET1K_SWAG_E2E_V1)
    model.heads.head = torch.nn.Linear(model.heads.head.in_features, 10)
    model = fabric.setup_module(model)
    optimizer = ZeroRedundancyOptimizer(model.parameters(), torch.optim.Adam, lr=5e-5)
    optimizer = fabric.setup_optimizers(optimizer)
    report.model_created()

    #########################################
    # 3. Finetuning
    #########################################

    for epoch in range(1, num_epochs + 1):
        model.train()
        progress = Progress(train_loader, f"Epoch {epoch}/{num_epochs}")
        for images, labels in progress:
            images = F.interpolate(images, size=518, mode="bilinear")
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
