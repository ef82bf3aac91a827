"""DistilBERT with LoRA: the library peft freezes the model and trains low-rank adapters.

Builds on: bonus_distilbert-after.py (variant)

What 15 does by hand, where the library peft is at home: the matrix products of attention and of the
MLP are ordinary Linear layers here, and peft puts an adapter beside each. Only these and the
classifier's two layers are trained, so that hardly any gradient is left, and a finetuned model is a
file of a few MB. Activations stay, because the backward pass goes through every layer as before,
and each layer runs some more small kernels. With SGD, gradients are all there is to save; with Adam
it would be its optimizer states, too.

Run: python bonus_distilbert-lora.py
"""

import torch
import torch.nn.functional as F
from lightning import Fabric
from torchmetrics import Accuracy

from local_utilities import Progress, Report, check_gpus, check_packages

check_packages("transformers", "datasets")
check_packages("peft", extra="lora")
from peft import LoraConfig, inject_adapter_in_model
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
    layers = ["q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2"]
    lora = LoraConfig(r=16, target_modules=layers, modules_to_save=["pre_classifier", "classifier"])
    model = inject_adapter_in_model(lora, model)
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
