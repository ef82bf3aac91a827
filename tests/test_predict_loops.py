"""Memory that comes late or grows: what a loop does after its first iterations."""

import ast
import itertools
import json

import pytest

from tests.helpers import run
from tests.scripts import TIGHT
from tests.warm import predict, predicted
from vramcast.loops import marks, points

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
kept = torch.cat([one.cuda() for one in kept])
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
    if i == 60: opt = torch.optim.Adam(net.parameters(), foreach=True)
    step()
""",
    "all is trained after a warm-up": """
deep = nn.Sequential(*[nn.Linear(64, 64) for _ in range(40)]).cuda().requires_grad_(False)
opt = torch.optim.Adam([*deep.parameters(), *net.parameters()], foreach=True)
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
    "sizes double every so many steps": """
rows = 32
for i in range(160):
    if i % 40 == 0 and i: rows *= 4
    step(rows)
""",
    "sizes change at the numbers of a list": """
rows = 32
for i in range(80):
    if i in [30, 60]: rows *= 8
    step(rows)
""",
    "another size in the second third of the epochs": """
few = DataLoader(TensorDataset(torch.randn(32, 64)), 32)
for epoch in range(80):
    for (x,) in few:
        net(x.repeat((1, 32, 1)[epoch * 3 // 80], 1).cuda()).square().mean().backward()
        opt.step(); opt.zero_grad()
""",
    "a data set is told another size": """
class Rows(torch.utils.data.Dataset):
    many = 1
    def __len__(self): return 200
    def __getitem__(self, i): return torch.randn(self.many, 64)
rows = Rows()
loader = DataLoader(rows, 32)
for rows.many in (1, 64):
    for x in loader:
        net(x.flatten(0, 1).cuda()).square().mean().backward(); opt.step(); opt.zero_grad()
""",
    "a buffer is filled before anything is trained": """
seen = 0
for i in range(230):
    with torch.no_grad(): net(new(1))
    seen += 1
    if seen >= 200: step(2048)
""",
    "a size is the whole number of a tensor": """
labels = torch.randint(0, 4000, (64,), device="cuda")
table = torch.zeros(int(labels.max()) + 1, 1024, device="cuda")
step()
""",
    "epochs at which a flag and a chain of comparisons change": """
few = DataLoader(TensorDataset(torch.randn(32, 64)), 32)
def due(epoch): return (epoch + 1) % 30 == 0
for epoch in range(80):
    for (x,) in few: step()
    if 31 <= epoch < 34: step(1024)
    if due(epoch): step(2048)
""",
    "a step after every 64th backward pass": """
opt = torch.optim.AdamW(net.parameters())
for i in range(200):
    net(new(32)).square().mean().backward()
    update = (i + 1) % 64 == 0
    if update: opt.step()
""",
    "what follows on loaders of classes of their own": """
class OnGpu(DataLoader):
    def __iter__(self):
        for (x,) in super().__iter__(): yield x.cuda()
class Ahead(DataLoader):
    def __iter__(self):
        self.batches = super().__iter__()
        return self
    def __next__(self): return next(self.batches)[0].cuda()
for x in OnGpu(TensorDataset(torch.randn(8, 64)), 8):
    with torch.no_grad(): net(x)
for x in Ahead(TensorDataset(torch.randn(64, 64)), 8):
    net(x).square().mean().backward(); opt.step(); opt.zero_grad()
step(4096)
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


def line(file, part: str) -> int:
    """The line of a script that has this part."""
    return 1 + file.read_text().split(part)[0].count("\n")


def test_what_was_not_run_is_said(script):
    file = script(HEAD + "for (x,) in loader:\n    step()\nfor i in range(500):\n    step()\n")
    batches, steps = (line(file, part) for part in ("for (x,)", "range(500)"))
    told = f"not run: 76 of 80 batches (line {batches}), 476 of 500 iterations (line {steps})\n"
    assert told in predict(file).stdout


def test_growth_is_told_with_its_line_and_tensor(script):
    file = script(HEAD + LATE["a leak below an earlier peak"])
    (note,) = predicted(file)["notes"]
    loop, made = line(file, "range(400)"), line(file, "out = net")
    grows = f"line {loop}: memory grows by 0.1 MB with each iteration (line {made}: addmm in model"
    assert note.startswith(f"{grows} (Linear), [32, 1024] float32)")
    assert "So much is counted for 388 more of them, 0.05 GB" in note


def test_a_condition_that_changes_too_late_is_told(script):
    own = "i = 0\nwhile True:\n    i += 1\n    if i > 800: opt = None\n    step()\n    {end}\n"
    file = script(HEAD + own.format(end="if i == 900: break"))
    row = predicted(file)
    (note,) = row["notes"]
    assert note.startswith(f"line {line(file, 'i > 800')}: its condition changes after 7")
    assert row["left_out"][0]["left"] + row["left_out"][0]["done"] == 900
    row = predicted(script(HEAD + own.format(end="")))
    assert row["left_out"][0]["left"] is None


def test_a_count_that_does_not_go_on_with_the_loop_is_told(script):
    """It looks as if it did, until the loop is moved on."""
    text = """
class Late(torch.optim.SGD):
    n = 0
    def step(self):
        self.n += 1
        if self.n == 60: self.kept = new(8192)
        super().step()
opt = Late(net.parameters())
for i in range(300): step()
"""
    (note,) = predicted(script(HEAD + text))["notes"]
    assert "its condition changes after" in note


def test_sizes_that_differ_each_time_are_told(script):
    text = """
import random
random.seed(1)
for i in range(300): step(random.randint(16, 2048))
for (x,) in loader:
    net(x.repeat(random.randint(1, 64), 1).cuda()).square().mean().backward()
    opt.step(); opt.zero_grad()
"""
    row = predicted(script(HEAD + text))
    steps, batches = row["notes"]
    assert "what is allocated differs from iteration to iteration: the most of the " in steps
    assert "from batch to batch: the most of the 16 that were run counts" in batches


def test_a_loop_over_epochs_ends(script):
    """After five at rest, one in each quarter that is left, and the last one."""
    text = "for epoch in range(200):\n    for (x,) in loader: step()\n"
    loops = {loop["what"]: loop for loop in predicted(script(HEAD + text))["left_out"]}
    assert loops["iterations"]["done"] < 12
    assert loops["iterations"]["done"] + loops["iterations"]["left"] == 200


def test_large_iterations_end_sooner(script):
    """Those of the second loop make thousands of tensors."""
    text = """
for _ in range(500):
    step()
for _ in range(500):
    many = [torch.empty(8, device="cuda") for _ in range(3001)]
    step()
    del many
"""
    small, large = [loop["done"] for loop in predicted(script(HEAD + text))["left_out"]]
    assert small > large + 10


def test_what_only_a_cycle_of_references_keeps_is_no_growth(script):
    cycles = "import gc\ngc.disable()\nfor i in range(1000):\n    c = [step()]\n    c.append(c)\n"
    row = predicted(script(HEAD + cycles))
    assert row["notes"] == []
    assert row["allocated_gb"] < 0.03


def test_a_few_bytes_of_many_iterations_are_told(script):
    kept = "kept = []\nfor i in range(10**7):\n    kept.append(step().sum().detach())\n"
    (note,) = predicted(script(HEAD + kept))["notes"]
    assert "memory grows by 512 bytes with each iteration, 5.12 GB in 9,999," in note


def test_loops_of_a_module_beside_the_script_are_followed(script):
    file = script("import work\n")
    lines = HEAD + "for i in range(100):\n    step()\n"
    (file.parent / "work.py").write_text(lines)
    (loop,) = predicted(file)["left_out"]
    assert loop["place"] == f"work.py, line {HEAD.count(chr(10)) + 1}"


def test_the_iterations_at_which_conditions_change():
    """`i == 50` and `i % 8 == 0` in a loop over `range(0, 200, 2)`, after 4 of its iterations."""
    equal = points.Condition(0, "line 2", "order", ends=False)
    rest = points.Condition(1, "line 3", "remainder", ends=False)
    end = points.Condition(2, "line 4", "order", ends=True)
    loop = points.Points()
    for i in (0, 2, 4, 6):
        loop.turn({equal: (i, 50), rest: (i, 8), end: (i // 2, 90)}, i, step=2)
    assert loop.ahead({}, rising=False, left=96) == {equal: 22, rest: 1}
    assert loop.ahead({}, rising=False, left=10) == {rest: 1}
    assert loop.ahead({equal: 2, rest: 1}, rising=False, left=96) == {}
    assert loop.ahead({equal: 2, rest: 1}, rising=True, left=96) == {equal: 22, rest: 1}
    assert loop.end() == 87
    loop.turn({end: (4, 90), equal: (50, 50), rest: (8, 8)}, 50, step=2)
    assert loop.follows(equal)  # it jumped with the loop
    assert not loop.follows(end)  # that counts by itself
    assert loop.unseen({equal: 1, rest: 1}, left=9) == {}


def test_a_condition_visited_in_vain_is_unseen():
    """It compares a number that a script counts by itself, which went on with the loop's own."""
    count = points.Condition(0, "line 2", "order", ends=False)
    loop = points.Points()
    for i in (0, 1, 2, 40):
        loop.turn({count: (min(i, 3), 60)}, i, step=1)
    assert loop.unseen({count: 1}, left=99) == {count: 57}
    assert loop.unseen({count: 1}, left=20) == {}
    assert loop.unseen({count: 1}, left=20, cut=True) == {count: 57}
    assert loop.ahead({}, rising=False, left=99) == {}
    assert loop.ahead({}, rising=False, left=99, wait=points.UNTRAINED) == {count: 57}


def test_the_next_of_several_numbers_is_compared():
    compared, found = points.Compared(), []
    for i in (3, 5, 9):
        for value, second in ((i, False), ({5: 0, 9: 0}, True)):
            assert compared.see(value, (0, "line 2", "among", False, second)) is value
        found.append(list(compared.pairs.values()))
    assert found == [[(3, 5)], [(5, 9)], []]


def test_a_script_computes_the_same_with_its_loops_marked():
    text = (
        "found, i = [], 0\nwhile i < 9:\n    i += 1\n    if i % 2: continue\n    if i > 6: break\n"
        "    found.append(i)\nfor j in (1, 2):\n    found += [j if j == 2 else -j]\n"
        "while i < 0: pass\nelse: found.append('%d' % i)\n"
    )
    names = {
        marks.LOOP: lambda items, place: iter(items),
        marks.ENDLESS: lambda place: itertools.count(),
        marks.NUMBER: lambda value, key: value,
    }
    exec(compile(marks.marked(ast.parse(text)), "script.py", "exec"), names)
    assert names["found"] == [2, 4, 6, -1, 2, "8"]


def test_loops_that_wait_and_loops_that_return_go_on_as_written(script):
    text = """
class Endless:
    def __len__(self): raise RuntimeError("not known")
    def __iter__(self): return iter(range(3))
def data():
    while True: yield new(32)
def train():
    i, batches = 0, data()
    while True:
        for j in range(100):
            if j % 50 == 0: next(batches)
            net(next(batches)).square().mean().backward()
            opt.step()
        i += 1
        if i >= 4: return net
for _ in Endless(): pass
for _ in range(10**20): break
train()(new(4096))
def by_steps():
    i = 0
    while True:
        step()
        i += 1
        if i >= 1000: return net
by_steps()(new(8192))
"""
    row = predicted(script(HEAD + text))
    assert row["notes"] == []
    assert row["allocated_gb"] * 1e9 > 8192 * 1024 * 4


def test_an_evaluation_without_a_loader_ends_once_it_is_at_rest(script):
    """As nanoGPT's `estimate_loss`, which is called again and again."""
    evaluate = """
def evaluate():
    losses = torch.zeros(200)
    with torch.no_grad():
        for k in range(200): losses[k] = net(new(32)).square().mean().item()
for i in range(40):
    if i % 10 == 0: evaluate()
    step()
"""
    file = script(HEAD + evaluate)
    ended = {loop["place"]: loop["done"] for loop in predicted(file)["left_out"]}
    assert 20 < ended[f"line {line(file, 'range(200)')}"] < 28


def test_gradients_are_added_up_until_they_are_at_rest(script):
    """As nanoGPT does; the last small batch is seen, and so is what counts by itself."""
    accumulate = """
for i in range(30):
    for small in range(200):
        if small == 199: new(4096)
        net(new(32)).square().mean().backward()
    opt.step(); opt.zero_grad()
count = 0
for small in range(200):
    net(new(32)).square().mean().backward()
    count += 1
    if count == 90:
        opt.step(); opt.zero_grad(); count = 0; new(8192)
"""
    file = script(HEAD + accumulate)
    row = predicted(file)
    ended = {loop["place"]: loop["done"] for loop in row["left_out"]}
    assert 20 < ended[f"line {line(file, 'for small in range(200)')}"] < 30
    assert row["allocated_gb"] * 1e9 > 8192 * 64 * 4
