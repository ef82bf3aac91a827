"""FSDP2: each parameter is sharded by itself, and the plan is a function.

Builds on: 09_fsdp-act-checkp.py (variant)

PyTorch calls the FSDP of the scripts before this one legacy. Its successor, `fully_shard`, shards
every parameter along its first dimension as a DTensor instead of flattening a block's into one,
which makes freezing and loading simpler. What arguments did before, a function does: checkpoint
each block, shard each block, then the rest; the optimizer comes after that, because the sharding
replaces the parameters. Two lines are needed because of Fabric: it would split each layer over the
GPUs of a machine (tensor parallelism), so `data_parallel_size` names all GPUs; and it takes float16
with loss scaling only as a plugin here. Memory and speed should be about the parent's, and the
losses are the same.

Run: python 08-10-vit-h14/09-2_fsdp2-act-checkp.py
"""

from functools import partial

import torch
import torch.nn.functional as F
from lightning import Fabric
from lightning.fabric.plugins import MixedPrecision
from lightning.fabric.strategies import ModelParallelStrategy
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.utils.checkpoint import checkpoint
from torchmetrics import Accuracy
from torchvision.models import ViT_H_14_Weights, vit_h_14

from local_utilities import Progress, Report, check_gpus, cifar10_loaders


def shard(model, mesh):
    options = {"mesh": mesh["data_parallel"], "mp_policy": MixedPrecisionPolicy(torch.float16)}
    for block in model.encoder.layers:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
        fully_shard(block, **options)
    return fully_shard(model, **options)


@torch.no_grad()
def evaluate(model, loader, device):
    model.eval()
    accuracy = Accuracy(task="multiclass", num_classes=10).to(device)
    for images, labels in loader:
        images = F.interpolate(images, size=518, mode="bilinear")
        accuracy.update(model(images), labels)
    return accuracy.compute().item()


if __name__ == "__main__":
    gpus = check_gpus(2)
    torch.manual_seed(123)
    torch.set_float32_matmul_precision("high")
    num_epochs = 1
    strategy = ModelParallelStrategy(shard, data_parallel_size=gpus, tensor_parallel_size=1)
    precision = MixedPrecision("16-mixed", device="cuda")
    fabric = Fabric(accelerator="cuda", devices="auto", strategy=strategy, plugins=precision)
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
    model = fabric.setup(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-5)
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
