"""How long a prediction takes of ordinary scripts: python -m benchmarks.speed [WORD …]

Times each script below (with words, those whose name has one of them), one after the other, each
by a command of its own. Seconds depend on what else the machine does; user CPU seconds, of the
command and of all that it starts, less so. Linux only.
"""

import ctypes
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ladder.rungs import ROOT

GOAL = 20  # seconds for an ordinary script, on two cores that do nothing else
SUBREAPER = 36  # prctl's PR_SET_CHILD_SUBREAPER: orphans become this process's, which counts them
HEAD = """
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset
"""
ROWS = """
net = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 10)).cuda()
opt = torch.optim.Adam(net.parameters())
for epoch in range(3):
    for x, y in DataLoader(Rows({rows}), batch_size={batch}, shuffle=True):
        F.cross_entropy(net(x.cuda()), y.cuda()).backward()
        opt.step()
        opt.zero_grad()
"""
TENSORS = """
def Rows(n): return TensorDataset(torch.randn(n, 16), torch.randint(0, 10, (n,)))
"""
OWN = """
class Rows(Dataset):
    def __init__(self, n): self.x, self.y = torch.randn(n, 16), torch.randint(0, 10, (n,))
    def __len__(self): return len(self.x)
    def __getitem__(self, i): return self.x[i], self.y[i]
"""
IMAGES = """
import torchvision
from torchvision import transforms
way = [transforms.RandomResizedCrop(224), transforms.ToTensor(), transforms.Normalize(0.5, 0.5)]
data = torchvision.datasets.FakeData(50_000, transform=transforms.Compose(way))
loader = DataLoader(data, 64, shuffle=True, num_workers=4, pin_memory=True)
net = torchvision.models.resnet50().cuda()
opt = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
for epoch in range(90):
    for i, (x, y) in enumerate(loader):
        with torch.autocast("cuda", torch.bfloat16): loss = F.cross_entropy(net(x.cuda()), y.cuda())
        opt.zero_grad()
        loss.backward()
        opt.step()
        if i % 10 == 0: print(epoch, i, loss.item())
    with torch.no_grad():
        right = sum((net(x.cuda()).argmax(1) == y.cuda()).sum() for x, y in loader)
"""
UNET = """
def twice(a, b): return nn.Sequential(*[m for i in (a, b) for m in
    (nn.Conv2d(i, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(True))])
class UNet(nn.Module):
    def __init__(self, sizes=(3, 64, 128, 256, 512, 1024)):
        super().__init__()
        self.down = nn.ModuleList(map(twice, sizes, sizes[1:]))
        pairs = zip(sizes[1:], sizes[2:])
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, 2) for a, b in pairs)
        self.join = nn.ModuleList(twice(2 * a, a) for a in sizes[1:-1])
        self.head = nn.Conv2d(64, 2, 1)
    def forward(self, x):
        kept = []
        for i, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if i else x)
            kept.append(x)
        for i in reversed(range(4)): x = self.join[i](torch.cat([kept[i], self.up[i](x)], 1))
        return self.head(x)
net, scaler = UNet().cuda(), torch.amp.GradScaler("cuda")
opt = torch.optim.RMSprop(net.parameters(), 1e-5, momentum=0.9)
for step in range(5000):
    x = torch.randn(4, 3, 256, 256, device="cuda")
    y = torch.randint(0, 2, (4, 256, 256), device="cuda")
    with torch.autocast("cuda", torch.float16): loss = F.cross_entropy(net(x), y)
    opt.zero_grad()
    scaler.scale(loss).backward()
    scaler.unscale_(opt)
    nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    scaler.step(opt)
    scaler.update()
    if step % 100 == 0: print(step, loss.item())
"""
SAMPLES = """
import torchvision
from torch.func import functional_call, grad, vmap
net = torchvision.models.resnet18(norm_layer=lambda c: nn.GroupNorm(8, c)).cuda()
weights = {k: v.detach() for k, v in net.named_parameters()}
opt = torch.optim.SGD(net.parameters(), 0.1)
def loss(w, x, y): return F.cross_entropy(functional_call(net, w, (x[None],)), y[None])
for step in range(1000):
    x, y = torch.randn(32, 3, 64, 64).cuda(), torch.randint(0, 1000, (32,)).cuda()
    each = vmap(grad(loss), (None, 0, 0))(weights, x, y)
    for k, v in net.named_parameters(): v.grad = each[k].mean(0)
    opt.step()
"""
TIMM = """
import timm
net = timm.create_model("vit_base_patch16_224", pretrained=False, num_classes=100).cuda()
opt = torch.optim.AdamW(net.parameters(), fused=True)
for step in range(10_000):
    x = torch.randn(64, 3, 224, 224, device="cuda")
    loss = F.cross_entropy(net(x), torch.randint(0, 100, (64,), device="cuda"))
    loss.backward()
    opt.step()
    opt.zero_grad()
    if step % 50 == 0: print(loss.item())
"""
SCRIPTS = {
    "TensorDataset, batches of 8,192": HEAD + TENSORS + ROWS.format(rows=2**16, batch=2**13),
    "TensorDataset, batches of 262,144": HEAD + TENSORS + ROWS.format(rows=2**20, batch=2**18),
    "own Dataset, batches of 8,192": HEAD + OWN + ROWS.format(rows=2**16, batch=2**13),
    "ResNet-50, FakeData": HEAD + IMAGES,
    "U-Net, GradScaler": HEAD + UNET,
    "per-sample gradients of a ResNet-18": HEAD + SAMPLES,
    "ViT-B of timm": HEAD + TIMM,
    "language model": ROOT / "examples/your_model/language_model.py",
    "Trainer of transformers": ROOT / "examples/your_model/trainer.py",
    "QLoRA": ROOT / "11-16-under-1gb/16_qlora.py",
}


def cpu() -> float:
    """User CPU seconds of all processes that have ended below this one."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime


def timed(script: Path) -> tuple[float, float, str]:
    """Seconds, user CPU seconds, and the answer's first line."""
    begun, before = time.perf_counter(), cpu()
    command = [sys.executable, "-m", "vramcast", str(script)]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    seconds = time.perf_counter() - begun
    while True:  # what scripts are forked from ends a little later
        try:
            os.wait()
        except ChildProcessError:
            break
    told = (answer.stdout or answer.stderr).strip().partition("\n")[0]
    return seconds, cpu() - before, told


def main(words: list[str]) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(SUBREAPER, 1, 0, 0, 0)
    with tempfile.TemporaryDirectory() as folder:
        for name, script in SCRIPTS.items():
            if words and not any(word in name for word in words):
                continue
            if isinstance(script, str):
                file = Path(folder, "script.py")
                file.write_text(script)
                script = file
            seconds, user, told = timed(script)
            above = f", above {GOAL} s" if seconds > GOAL else ""
            print(f"{name}: {seconds:.1f} s, {user:.1f} s of user CPU{above}", flush=True)
            print(f"    {told}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
