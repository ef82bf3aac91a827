import random

import torch
from torch import nn

layer = nn.TransformerEncoderLayer(1024, 16, batch_first=True, norm_first=True)
model = nn.TransformerEncoder(layer, 12, enable_nested_tensor=False).cuda()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
random.seed(1)
for _ in range(40):
    tokens = torch.randn(8, random.randint(64, 768), 1024, device="cuda")
    model(tokens).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
