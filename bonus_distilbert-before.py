"""DistilBERT in float32: a language model, finetuned on IMDb's reviews without any technique.

Builds on: nothing

The task is to tell whether a review of a film is positive. Texts differ in length, unlike images,
and the activations grow with the longest of a batch: so each batch is padded to its own longest
review, and reviews are cut at the 512 tokens that DistilBERT can read. With 66 million parameters
the model is small, and in float32 at batch 16 it is again the activations that take most memory.

Run: python bonus_distilbert-before.py
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
    fabric = Fabric(accelerator="cuda", devices=1, precision="32-true")
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
            tokens = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
            loss = F.cross_entropy(model(**tokens.to(fabric.device)).logits, labels)
            progress.show(loss)
            optimizer.zero_grad()
            fabric.backward(loss)
            optimizer.step()
        val_batches = Progress(val_loader, "Validation")
        val_accuracy = evaluate(model, tokenizer, val_batches, fabric.device)
        report.end_epoch(progress, val_accuracy)

    #########################################
    # 4. Test
    #########################################

    test_accuracy = evaluate(model, tokenizer, Progress(test_loader, "Test"), fabric.device)
    report.finish(test_accuracy)
