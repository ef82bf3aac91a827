import random

import torch
from torch import nn

layer = nn.TransformerEncoderLayer(1024, 16, batch_first=True, norm_first=True)
model = nn.TransformerEncoder(layer, 12, enable_nested_tensor=False).cuda()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
random.seed(1)
texts = [min(1024, int(random.expovariate(1 / 150)) + 8) for _ in range(480)]
batches = [texts[start : start + 16] for start in range(0, len(texts), 16)]
for batch in batches:
    tokens = torch.randn(len(batch), max(batch), 1024, device="cuda")
    model(tokens).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
