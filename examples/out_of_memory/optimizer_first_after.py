import os

import torch
from torch import nn
from torch.distributed.fsdp import fully_shard

torch.distributed.init_process_group("nccl")
torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
layer = nn.TransformerEncoderLayer(2048, 16, batch_first=True, norm_first=True)
model = nn.TransformerEncoder(layer, 24, enable_nested_tensor=False).cuda()
for block in model.layers:
    fully_shard(block)
fully_shard(model)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
for _ in range(4):
    tokens = torch.randn(4, 256, 2048, device="cuda")
    model(tokens).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
