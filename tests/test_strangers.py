"""Ordinary training scripts of other kinds than the ladder's, rehearsed."""

import json

import pytest

from tests import warm

HEAD = """\
import torch
from torch import nn
import torch.nn.functional as F
"""
SCRIPTS = {  # each checks what it sees by itself
    "products": """
m = nn.Linear(8, 8).cuda().bfloat16()
optimizer = torch.optim.AdamW([{"params": []}, {"params": m.parameters()}])
x = torch.randn(4, 8, device="cuda").bfloat16()
F.scaled_dot_product_attention(query=x, key=x, value=x)
F.linear(input=x, weight=m.weight, bias=m.bias)
torch.einsum("ij,kj->ik", [x, torch.matmul(input=x, other=m.weight)])
c = torch.zeros(4, 4, device="cuda").bfloat16()
torch.mm(x, x.T, out=c)
assert c.abs().sum() > 0
F.cross_entropy(m(x[0]).float(), torch.tensor(3, device="cuda")).backward()
F.cross_entropy(m(x[:0]), torch.zeros(0, dtype=torch.long), reduction="sum").backward()
optimizer.step()
""",
    "default_device": """
torch.set_default_device("cuda")
with torch.device("cuda:0"):
    m = nn.Linear(8, 3)
generator = torch.Generator(device="cuda").manual_seed(1)
assert isinstance(generator, torch.Generator)
assert isinstance(torch.default_generator, torch.Generator)
optimizer = torch.optim.AdamW(m.parameters(), fused=True, amsgrad=True)
m(torch.randn(2, 8, generator=generator)).sum().backward()
optimizer.step()
torch.set_default_tensor_type("torch.cuda.FloatTensor")
assert torch.zeros(3).type(torch.cuda.HalfTensor).dtype == torch.float16
import io
for place in ("cuda", torch.device("cuda:1"), {"cpu": "cuda:0"}, None, lambda one, tag: one):
    file = io.BytesIO()
    torch.save(m.state_dict(), file)
    file.seek(0)
    m.load_state_dict(torch.load(file, map_location=place))
""",
    "gan": """
assert torch.cuda.device_count() > 1
make = nn.DataParallel(nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)).cuda())
tell = nn.DataParallel(nn.Sequential(nn.Linear(4, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1)).cuda())
two = [torch.optim.Adam(m.parameters(), 2e-4, betas=(0.5, 0.999)) for m in (make, tell)]
real, fake = torch.randn(6, 4, device="cuda"), make(torch.randn(6, 8, device="cuda"))
mixed = (0.5 * real + 0.5 * fake.detach()).requires_grad_()
[slope] = torch.autograd.grad(tell(mixed).sum(), mixed, create_graph=True)
(tell(fake.detach()) - tell(real) + 10 * (slope.norm(dim=1) - 1) ** 2).mean().backward()
two[1].step()
(-tell(fake).mean()).backward()
two[0].step()
""",
    "copies": """
m = nn.Linear(8, 3).cuda()
optimizer = torch.optim.SGD(m.parameters(), lr=1.0)
before = {key: value.cpu() for key, value in m.state_dict().items()}
kept = m.weight.detach().to("cpu")
data = torch.ones(4, 8)
for place in ("cuda", torch.device("cuda:0"), 0):
    data[:2].to(place).zero_()
    data[:2].to(device=place, non_blocking=True).zero_()
data[:2].cuda().zero_()
assert data.sum() == 32
m(data.cuda()).sum().backward()
optimizer.step()
assert not torch.equal(before["weight"], m.weight) and not torch.equal(kept, m.weight)
torch.eye(3).to_sparse().cuda()
""",
    "autocast": """
class Product(torch.autograd.Function):
    @staticmethod
    @torch.amp.custom_fwd(device_type="cuda", cast_inputs=torch.float32)
    def forward(ctx, x, w):
        assert x.dtype == torch.float32 and not torch.is_autocast_enabled("cuda")
        ctx.save_for_backward(x, w)
        return x @ w.T

    @staticmethod
    @torch.amp.custom_bwd(device_type="cuda")
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        return g @ w, g.T @ x

weight = nn.Parameter(torch.randn(5, 8, device="cuda"))
optimizer = torch.optim.SGD([weight], 0.1)

@torch.autocast("cuda")  # float16 on a GPU
def loss(x):
    assert torch.is_autocast_enabled() and torch.get_autocast_gpu_dtype() == torch.float16
    product = x @ x.T
    assert product.dtype == torch.float16
    assert F.conv2d(x[None, None], x[:1, :1][None, None]).dtype == torch.float16
    return Product.apply(product @ x, weight).square().mean()

loss(torch.randn(3, 8, device="cuda")).backward()
optimizer.step()
for kind in (nn.LSTM, nn.GRU, nn.RNN):
    layer = kind(8, 4, batch_first=True, bidirectional=True).cuda()
    with torch.autocast("cuda", torch.bfloat16):
        result, _ = layer(torch.randn(2, 6, 8, device="cuda"))
    assert result.dtype == torch.bfloat16
    result.float().sum().backward()
""",
    "functional": """
from torch.func import functional_call, grad, vmap
m = nn.Linear(8, 3).cuda()
parameters = dict(m.named_parameters())

def loss(parameters, x, y):
    return F.cross_entropy(functional_call(m, parameters, (x,)), y)

x, y = torch.randn(6, 8, device="cuda"), torch.randint(3, (6,), device="cuda")
each = vmap(grad(loss), (None, 0, 0))(parameters, x, y)
with torch.no_grad():  # and no optimizer
    for name, one in parameters.items():
        one -= 0.1 * each[name].mean(0)
""",
    "timed": """
m = nn.Linear(8, 3).cuda()
optimizer = torch.optim.LBFGS(m.parameters(), max_iter=2)
stream, start = torch.cuda.Stream(), torch.cuda.Event(enable_timing=True)
start.record()
with torch.cuda.stream(stream), torch.cuda.device(0), torch.random.fork_rng():
    x = torch.randn(4, 8, device="cuda")
    x.record_stream(stream)
torch.cuda.current_stream().wait_stream(stream)
state = torch.cuda.get_rng_state()
one = torch.randn(3, device="cuda")
torch.cuda.set_rng_state(state)
assert torch.equal(one, torch.randn(3, device="cuda"))
torch.cuda.nvtx.range_push("step")
torch.cuda.memory._record_memory_history()
assert torch.cuda.memory_stats()["allocated_bytes.all.peak"] == 0

def closure():
    optimizer.zero_grad()
    loss = F.cross_entropy(m(x), torch.zeros(4, dtype=torch.long, device="cuda"))
    loss.backward()
    return loss

optimizer.step(closure)
""",
    "kernels": """
from torch.nn.attention import SDPBackend, sdpa_kernel
m = nn.Linear(8, 24, device="cuda")
optimizer = torch.optim.SGD(m.parameters(), 0.1)
x = torch.randn(2, 2, 6, 8, device="cuda")
for kernel in (SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION):
    with torch.autocast("cuda"), sdpa_kernel(kernel):
        attention = F.scaled_dot_product_attention(*m(x).chunk(3, -1), dropout_p=0.1)
    attention.float().sum().backward()
optimizer.step()
""",
    "own_classes": """
from torchmetrics import Metric

class Accuracy(Metric):
    def __init__(self):
        super().__init__()
        self.add_state("right", torch.tensor(0.0))
    def update(self, *, right):
        self.right += right
    def compute(self):
        return {"right": self.right}

class Descent(torch.optim.Optimizer):
    def __init__(self, parameters):
        super().__init__(parameters, {})
        self.state["steps"] = 0
    def step(self):
        self.state["steps"] += 1

m = nn.Linear(8, 3).cuda()
optimizer = Descent(m.parameters())
m(torch.randn(2, 8, device="cuda")).sum().backward()
optimizer.step()
metric = Accuracy()
metric.update(right=1)
metric.compute()
""",
    "graph": """
m = nn.Linear(8, 3).cuda()
kind: torch.cuda.CUDAGraph | torch.Generator | None = None
m = torch.cuda.make_graphed_callables(m, (torch.randn(2, 8, device="cuda"),))
with torch.cuda.graph(torch.cuda.CUDAGraph()):
    pass
""",
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> dict[str, dict]:
    """One rehearsal of all of them: rows by name."""
    folder = tmp_path_factory.mktemp("strangers")
    scripts = [folder / f"{name}.py" for name in SCRIPTS]
    for script in scripts:
        script.write_text(HEAD + SCRIPTS[script.stem])
    warm.run("rehearse.py", *scripts, "--results", folder / "rows.json")
    found = json.loads((folder / "rows.json").read_text())
    return {row["script"].rpartition("/")[2].removesuffix(".py"): row for row in found}


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name != "graph"])
def test_it_runs_to_its_end(rows, name):
    assert rows[name].get("error") is None


def test_what_was_observed_is_told(rows):
    assert rows["products"]["precision"] == "bfloat16"  # of the second group
    assert rows["autocast"]["precision"] == "bfloat16 mixed"
    assert rows["functional"]["precision"] is None
    assert rows["timed"]["loss_first"] > 0


def test_what_has_no_stand_in_is_told(rows):
    assert rows["graph"]["error"].startswith("line 8: RuntimeError: there is no stand-in for this")
