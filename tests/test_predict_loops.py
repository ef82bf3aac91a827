"""Memory that comes late or grows: what a loop does after its first iterations."""

import json

import pytest

from tests.helpers import run
from tests.scripts import TIGHT
from tests.warm import predicted

HEAD = """
import collections, itertools
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
net = nn.Linear(64, 1024).cuda()
opt = torch.optim.SGD(net.parameters(), lr=0.1)
def new(rows): return torch.randn(rows, 64, device="cuda")
def step(rows=32):
    out = net(new(rows))
    out.square().mean().backward()
    opt.step()
    opt.zero_grad()
    return out
loader = DataLoader(TensorDataset(torch.randn(2560, 64)), 32)
"""
# Each has a peak that comes after a while; none may be answered with less than it takes.
LATE = {
    "an evaluation keeps its outputs": """
for (x,) in loader:
    net(x.cuda()).square().mean().backward(); opt.step(); opt.zero_grad()
with torch.no_grad():
    kept = torch.cat([net(x.cuda()) for (x,) in loader])
""",
    "an evaluation keeps its outputs on the host": """
step()
with torch.no_grad():
    kept = [net(x.cuda()).cpu() for (x,) in loader]
kept = torch.cat(kept).cuda()
""",
    "an evaluation keeps its graph": """
step()
total = 0
for (x,) in loader:
    total = total + net(x.cuda()).square().mean()
""",
    "a leak below an earlier peak": """
with torch.no_grad(): net(new(4096))
kept = []
for _ in range(400):
    kept.append(step().detach())
""",
    "a graph is kept every tenth batch": """
kept = []
for i, (x,) in enumerate(loader):
    out = net(x.cuda())
    out.square().mean().backward(); opt.step(); opt.zero_grad()
    if i % 10 == 0: kept.append(out)
""",
    "a graph is kept every tenth step": """
kept, i = [], 0
while i < 300:
    out = step()
    i += 1
    if i % 10 == 0: kept.append(out)
""",
    "sizes grow": """
for rows in (32, 2048):
    for _ in range(100): step(rows)
""",
    "lengths grow, with steps for each": """
for rows in range(64, 2048, 128):
    for _ in range(25): step(rows)
""",
    "another optimizer from a step on": """
for i in range(90):
    if i == 60: opt = torch.optim.Adam(net.parameters())
    step()
""",
    "all is trained after a warm-up": """
deep = nn.Sequential(*[nn.Linear(64, 64) for _ in range(40)]).cuda().requires_grad_(False)
opt = torch.optim.Adam([*deep.parameters(), *net.parameters()])
for epoch in range(30):
    if epoch >= 20: deep.requires_grad_(True)
    net(deep(new(512))).square().mean().backward(); opt.step(); opt.zero_grad()
""",
    "a large evaluation at the end of the loop": """
for i in range(200):
    step()
    if i == 199:
        with torch.no_grad(): net(new(4096))
""",
    "copies of the weights of each epoch": """
copies = []
for epoch in range(30):
    for _ in range(3): step()
    copies.append({key: value.clone() for key, value in net.state_dict().items()})
""",
    "a state is carried over": """
state = torch.zeros(32, 1024, device="cuda")
for i in range(60):
    state = net(new(32)) + state
    state.square().mean().backward(retain_graph=True); opt.step(); opt.zero_grad()
    opt = torch.optim.SGD(net.parameters(), lr=0.0)
""",
    "a cache grows": """
cache = new(1)
with torch.no_grad():
    for _ in range(300):
        net(cache[-1:])
        cache = torch.cat([cache, new(64)])
""",
    "a queue fills up": """
queue = collections.deque(maxlen=64)
for _ in range(200):
    queue.append(step())
stacked = torch.stack(list(queue))
""",
    "losses are summed before one backward pass": """
for _ in range(4):
    loss = 0
    for _ in range(50): loss = loss + net(new(32)).square().mean()
    loss.backward(); opt.step(); opt.zero_grad()
""",
    "steps by hand": """
for i in range(300):
    out = net(new(512))
    out.square().mean().backward()
    with torch.no_grad():
        for p in net.parameters(): p -= 0.1 * p.grad
""",
}


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    """Of each script above: its file, and the bytes that its tensors take on the CPU."""
    folder = tmp_path_factory.mktemp("late")
    files = {kind: folder / f"{number}.py" for number, kind in enumerate(LATE)}
    for kind, file in files.items():
        file.write_text(HEAD + LATE[kind])
    process = run("-m", "tests.probes.real_memory", *map(str, files.values()))
    assert process.returncode == 0, process.stderr
    return dict(zip(LATE, zip(files.values(), json.loads(process.stdout)), strict=True))


@pytest.mark.parametrize("kind", LATE)
def test_what_comes_late_is_not_missed(counted, kind):
    file, most = counted[kind]
    row = predicted(file, **TIGHT, CUBLAS_WORKSPACE_CONFIG=":16:1")
    # the count has the data on the host, too
    assert row["allocated_gb"] * 1e9 >= 0.98 * (most - 2560 * 64 * 4)
