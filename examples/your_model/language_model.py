import torch
from transformers import GPT2Config, GPT2LMHeadModel

model = GPT2LMHeadModel(GPT2Config(n_layer=24, n_embd=1024, n_head=16)).cuda()
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5)
for _ in range(4):
    words = torch.randint(50257, (8, 512), device="cuda")
    loss = model(input_ids=words, labels=words).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
