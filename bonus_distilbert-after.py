"""DistilBERT with the techniques: bfloat16, micro-batches, and SGD with a cosine schedule.

Builds on: bonus_distilbert-before.py

What scripts 03 to 06 do to a vision transformer, in one step. Parameters, gradients and activations
are bfloat16, two bytes each; a batch of 16 runs as four micro-batches of 4, whose gradients add up
to the whole batch's; and SGD keeps no optimizer states, of which Adam has two per parameter. Each
micro-batch is padded to its own longest review, so a long one no longer stretches all sixteen.
Small passes use the GPU less well, and that costs time; plain SGD on bfloat16 parameters costs some
accuracy.

Run: python bonus_distilbert-after.py
"""

import torch
import torch.nn.functional as F
from lightning import Fabric
from torchmetrics import Accuracy

from local_utilities import Progress, Report, check_gpus, check_packages

check_packages("transformers", "datasets")
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from imdb import imdb_loaders


@torch.no_grad()
def evaluate(model, tokenizer, loader, device):
    model.eval()
    accuracy = Accuracy(task="multiclass", num_classes=2).to(device)
    for texts, labels in loader:
        tokens = tokenizer(texts, padding=True, truncation=True, return_tensors="pt").to(device)
        accuracy.update(model(**tokens).logits, labels)
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

    loaders = fabric.setup_dataloaders(*imdb_loaders(batch_size=16))
    train_loader, val_loader, test_loader = loaders

    #########################################
    # 2. Model
    #########################################

    name = "distilbert/distilbert-base-uncased"
    tokenizer = AutoTokenizer.from_pretrained(name)
    model = AutoModelForSequenceClassification.from_pretrained(name, num_labels=2)
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
        for texts, labels in progress:
            optimizer.zero_grad()
            batch_loss = 0.0
            for start in range(0, len(texts), 4):
                micro_texts, micro_labels = texts[start : start + 4], labels[start : start + 4]
                tokens = tokenizer(micro_texts, padding=True, truncation=True, return_tensors="pt")
                loss = F.cross_entropy(model(**tokens.to(fabric.device)).logits, micro_labels)
                share = len(micro_labels) / len(labels)
                fabric.backward(share * loss)
                batch_loss += share * loss.detach()
            progress.show(batch_loss)
            optimizer.step()
            scheduler.step()
        val_batches = Progress(val_loader, "Validation")
        val_accuracy = evaluate(model, tokenizer, val_batches, fabric.device)
        report.end_epoch(progress, val_accuracy)

    #########################################
    # 4. Test
    #########################################

    test_accuracy = evaluate(model, tokenizer, Progress(test_loader, "Test"), fabric.device)
    report.finish(test_accuracy)
