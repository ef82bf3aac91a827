import torch
from torch import nn

layer = nn.TransformerEncoderLayer(2048, 16, batch_first=True, norm_first=True)
model = nn.TransformerEncoder(layer, 24, enable_nested_tensor=False).cuda()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
for _ in range(4):
    tokens = torch.randn(1, 256, 2048, device="cuda")
    model(tokens).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
