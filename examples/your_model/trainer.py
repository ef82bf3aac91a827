import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments


class Words(torch.utils.data.Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, place):
        words = torch.randint(50257, (512,))
        return {"input_ids": words, "labels": words}


model = GPT2LMHeadModel(GPT2Config(n_layer=24, n_embd=1024, n_head=16))
arguments = TrainingArguments(
    "out",
    per_device_train_batch_size=8,
    report_to="none",
)
Trainer(model, arguments, train_dataset=Words()).train()
