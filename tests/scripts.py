"""Parts of small scripts that several tests predict, and the setting for figures of formulas."""

# In expandable segments, a block is what its tensor needs, rounded up to 512 bytes. In others, what
# is left of it, up to 1 MiB, counts too.
TIGHT = {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}
HEAD = "import torch\nimport torch.nn.functional as F\nfrom torch import nn\n"
DEEP = "model = nn.Sequential(*[nn.Linear(1024, 1024) for _ in range(8)]).cuda()\n"
WEIGHTS = 8 * (1024 * 1024 + 1024) * 4 / 1e9  # GB in float32
LOOP = """
from torch.utils.data import DataLoader, TensorDataset
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for (images,) in DataLoader(TensorDataset(torch.zeros(1000, 1024)), batch_size=32):
    model(images.cuda()).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
"""
RANK = """
import os
import torch.distributed as dist
dist.init_process_group("nccl")
rank = int(os.environ["LOCAL_RANK"])
assert (dist.get_rank(), dist.get_world_size()) == (int(os.environ["RANK"]), 4)
torch.cuda.set_device(rank)
"""
# a whole script, of few steps
TRAINING = """
import torch

model = torch.nn.Linear(64, 64).cuda()
optimizer = torch.optim.SGD(model.parameters())
for _ in range(9):
    model(torch.ones(8, 64).cuda()).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
"""
