"""BigBird on several GPUs: long texts, sharded parameters, and optimizer states on the host.

Builds on: bonus_distilbert-after.py

BigBird reads thousands of tokens, because a block of 64 attends to some others instead of to all.
At the first text of 704 tokens or fewer, its class turns to full attention for good, hence padding
to multiples of 768, up to 3,840 of the 4,096 tokens that it can read. Each GPU holds one review at
a time, and twelve on each GPU make a step. Until the last of them, `no_backward_sync` postpones the
reduce-scatter and keeps all of the model's gradients on each GPU; with CPU offload that is not only
faster, but needed for a correct sum. Parameters and optimizer states live on the host, which costs
most of the time, and leaves room for Adam again.

Run: python bonus_bigbird.py
"""

from functools import partial

import torch
import torch.nn.functional as F
from lightning import Fabric
from lightning.fabric.strategies import FSDPStrategy
from torchmetrics import Accuracy

from local_utilities import Progress, Report, check_gpus, check_packages

check_packages("transformers", "datasets")
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.models.big_bird.modeling_big_bird import BigBirdLayer

from imdb import imdb_loaders


@torch.no_grad()
def evaluate(model, tokenizer, loader, device):
    model.eval()
    accuracy = Accuracy(task="multiclass", num_classes=2).to(device)
    for texts, labels in loader:
        for text, label in zip(texts, labels.split(1)):
            tokens = tokenizer([text]).to(device)
            accuracy.update(model(**tokens).logits, label)
    return accuracy.compute().item()


if __name__ == "__main__":
    check_gpus(2)
    torch.manual_seed(123)
    torch.set_float32_matmul_precision("high")
    num_epochs = 1
    strategy = FSDPStrategy(auto_wrap_policy={BigBirdLayer}, cpu_offload=True)
    fabric = Fabric(accelerator="cuda", devices="auto", strategy=strategy, precision="bf16-true")
    fabric.launch()
    report = Report(fabric)

    #########################################
    # 1. Data
    #########################################

    loaders = fabric.setup_dataloaders(*imdb_loaders(batch_size=12))
    train_loader, val_loader, test_loader = loaders

    #########################################
    # 2. Model
    #########################################

    name = "google/bigbird-roberta-base"
    tokenizer = AutoTokenizer.from_pretrained(name, model_max_length=3840)
    padding = {"padding": True, "pad_to_multiple_of": 768}
    tokenizer = partial(tokenizer, **padding, truncation=True, return_tensors="pt")
    model = AutoModelForSequenceClassification.from_pretrained(name, num_labels=2)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-5)
    model, optimizer = fabric.setup(model, optimizer)
    report.model_created()

    #########################################
    # 3. Finetuning
    #########################################

    for epoch in range(1, num_epochs + 1):
        model.train()
        progress = Progress(train_loader, f"Epoch {epoch}/{num_epochs}")
        for texts, labels in progress:
            optimizer.zero_grad()
            batch_loss = 0.0
            for number, (text, label) in enumerate(zip(texts, labels.split(1)), 1):
                tokens = tokenizer([text]).to(fabric.device)
                with fabric.no_backward_sync(model, enabled=number < len(texts)):
                    loss = F.cross_entropy(model(**tokens).logits, label)
                    fabric.backward(loss / len(texts))
                batch_loss += loss.detach() / len(texts)
            progress.show(batch_loss)
            optimizer.step()
        val_batches = Progress(val_loader, "Validation")
        val_accuracy = evaluate(model, tokenizer, val_batches, fabric.device)
        report.end_epoch(progress, val_accuracy)

    #########################################
    # 4. Test
    #########################################

    test_accuracy = evaluate(model, tokenizer, Progress(test_loader, "Test"), fabric.device)
    report.finish(test_accuracy)
