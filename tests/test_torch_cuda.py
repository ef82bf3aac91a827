"""`torch.cuda` and `torch.accelerator` as a script finds them: what they take and what they tell.

The scripts here check themselves: a failed `assert` is no prediction.
"""

import json

import pytest

from tests.warm import predicted, run
from vramcast import gpus

TRAIN = """
import torch

model = torch.nn.Sequential(*(torch.nn.Linear(1000, 1000) for _ in range(8))).cuda()
optimizer = torch.optim.AdamW(model.parameters())
for _ in range(4):
    model(torch.randn(300, 1000, device="cuda")).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
"""


@pytest.fixture
def answer(tmp_path):
    """The prediction of a script with this text after TRAIN's."""

    def predict(text: str, *options: str) -> dict:
        script = tmp_path / "script.py"
        script.write_text(TRAIN + text)
        return predicted(script, *options)

    return predict


def test_a_script_reads_the_figures_of_the_answer(answer):
    """To the byte, by every name that PyTorch has for them."""
    row = answer("")
    assert sum(row["breakdown_gb"].values()) == pytest.approx(row["allocated_gb"], abs=1e-12)
    peaks = {kind: round(row[f"{kind}_gb"] * 1e9) for kind in ("allocated", "reserved")}
    answer(f"""
for kind, peak in {peaks}.items():
    for place in (torch.cuda, torch.cuda.memory, torch.accelerator):
        assert getattr(place, f"max_memory_{{kind}}")() == peak, (place, kind, peak)
        assert place.memory_stats()[f"{{kind}}_bytes.all.peak"] == peak
""")


def test_a_block_counts_with_a_rest_that_is_too_small_to_be_split(answer):
    """12 MiB in place of 11.5, as in CUDACachingAllocator.cpp (`should_split`)."""
    answer("""
torch.cuda.empty_cache()
before = torch.cuda.memory_allocated()
held = torch.empty(11 * 2**20 + 2**19, dtype=torch.uint8, device="cuda")
assert torch.cuda.memory_allocated() - before == 12 * 2**20
""")


def test_peaks_can_be_reset_and_the_answer_keeps_them(answer):
    row = answer("""
most = torch.cuda.max_memory_allocated()
torch.cuda.reset_peak_memory_stats()
assert torch.cuda.max_memory_allocated() == torch.cuda.memory_allocated() < most
held = torch.ones(10**7, device="cuda")
del held
assert torch.cuda.memory_allocated() + 40e6 <= torch.cuda.max_memory_allocated() < most
""")
    assert row["allocated_gb"] == answer("")["allocated_gb"]


def test_free_memory_is_what_the_driver_has_left(answer):
    answer(f"""
free, total = torch.cuda.mem_get_info()
assert total - free == torch.cuda.memory_reserved() + {gpus.DEFAULT.context}
torch.cuda.empty_cache()
assert torch.cuda.mem_get_info()[0] > free
assert torch.accelerator.get_memory_info() == torch.cuda.mem_get_info()
assert "Allocated memory" in torch.cuda.memory_summary()
""")


KEYWORDS = """
device = torch.device("cuda")
for name in (
    "current_stream default_stream synchronize memory_stats memory_allocated max_memory_reserved "
    "mem_get_info reset_peak_memory_stats get_device_properties get_device_name get_rng_state "
    "get_device_capability memory_summary device"
).split():
    function = getattr(torch.cuda, name)
    function(device=device), function(device=0), function("cuda:0")
torch.cuda.is_bf16_supported(including_emulation=False)
torch.cuda.set_per_process_memory_fraction(0.5, device=0)
torch.cuda.memory._record_memory_history(max_entries=100)
torch.cuda.memory._dump_snapshot(filename="history.pickle")
start, end = torch.cuda.Event(enable_timing=True), torch.Event("cuda", enable_timing=True)
side = torch.cuda.Stream(device=device, priority=-1)
other = torch.Stream(device="cuda", priority=0)
start.record(stream=side)
end.record(other)
start.elapsed_time(end_event=end)
side.wait_event(event=end)
side.wait_stream(stream=torch.cuda.current_stream(device=device))
assert torch.cuda.current_stream() == torch.cuda.default_stream() != side
with torch.cuda.stream(stream=side):
    assert torch.cuda.current_stream() == side
with side, torch.cuda.StreamContext(other):
    assert torch.accelerator.current_stream() == other
for place in (torch.cuda, torch.accelerator):
    place.set_stream(side)
    assert torch.cuda.current_stream() == side
    place.set_stream(torch.cuda.default_stream())
with torch.cuda.stream(None):
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
with torch.accelerator.device_index(0):
    torch.accelerator.synchronize(0)
"""


def test_every_keyword_that_pytorch_takes(answer):
    (note,) = answer(KEYWORDS)["notes"]
    assert note.startswith("the script limits itself to 50% of the GPU's memory")


@pytest.mark.parametrize("name", ["torch.Stream('cuda')", "torch.cuda.Stream()"])
def test_the_streams_of_both_names_have_pools_of_their_own(answer, name):
    """What one of them frees is not for the other."""
    more = "held = torch.empty(10**9, device='cuda'); del held\n"
    alone = answer(more + more)["reserved_gb"]
    apart = answer(f"{more}\nwith {name}:\n    {more}")["reserved_gb"]
    assert apart == pytest.approx(alone + 4, abs=0.1)


def test_an_older_gpu_emulates_bfloat16(answer):
    """As PyTorch answers (torch/cuda/__init__.py), and computes in it."""
    row = answer(
        """
assert torch.cuda.is_bf16_supported()
assert not torch.cuda.is_bf16_supported(including_emulation=False)
with torch.autocast("cuda", torch.bfloat16):
    assert model(torch.randn(2, 1000, device="cuda")).dtype == torch.bfloat16
""",
        "--gpu",
        "T4",
    )
    assert row["fits"]


POOLS = {
    "a graph": """
graph = torch.cuda.CUDAGraph()
with torch.cuda.graph(graph):
    y = torch.ones(10**9, device="cuda") + 1
graph.replay()
""",
    "a graph by hand": """
graph = torch.cuda.CUDAGraph()
graph.capture_begin()
y = torch.ones(10**9, device="cuda") + 1
graph.capture_end()
""",
    "a pool": """
pool = torch.cuda.MemPool()
with torch.cuda.use_mem_pool(pool):
    y = torch.ones(10**9, device="cuda") + 1
""",
}


@pytest.mark.parametrize("kind", POOLS)
def test_what_belongs_to_a_graph_or_a_pool_is_for_nothing_else(answer, kind):
    """4 GB of result, and 4 GB of a temporary, which stay when all unused memory is given back."""
    text = """
held = torch.empty(10**9, device="cuda")
torch.cuda.synchronize()
torch.cuda.empty_cache()
assert torch.cuda.memory_reserved() > 12e9
"""
    assert answer(POOLS[kind] + text)["reserved_gb"] == pytest.approx(12.2, abs=0.1)
    plain = "y = torch.ones(10**9, device='cuda') + 1\n"
    assert answer(plain + text.replace("12e9", "8e9"))["reserved_gb"] == pytest.approx(8.2, abs=0.1)


PRODUCTS = """
before = torch.cuda.memory_allocated()
with torch.cuda.Stream():
    held = x @ x
    more = x @ x
first = torch.cuda.memory_allocated() - before
with torch.cuda.Stream():
    other = x @ x
both = torch.cuda.memory_allocated() - before
assert (first - 2 * 512, both - 3 * 512) == (SIZE, 2 * SIZE), (first, both)
"""


@pytest.mark.parametrize(
    ("config", "size"), [("", 8_519_680), (":4096:2:16:8", 1024 * (2 * 4096 + 8 * 16))]
)
def test_cublas_has_a_workspace_for_each_stream(tmp_path, config, size):
    """CublasHandlePool.cpp: for each handle and stream, and as large as the variable says.

    The variable counts at the first product, so a script may set it.
    """
    script = tmp_path / "script.py"
    script.write_text(
        f"import os, torch\nos.environ['CUBLAS_WORKSPACE_CONFIG'] = {config!r}\n"
        "x = torch.ones(8, 8, device='cuda')\n" + PRODUCTS.replace("SIZE", str(size)) + TRAIN
    )
    assert predicted(script)["allocated_gb"] > 0


def test_graphs_and_streams_are_classes(answer):
    """A script derives classes of its own from them, and asks for their kind."""
    row = answer("""
class Graph(torch.cuda.CUDAGraph):
    def __new__(cls, keep_graph=False):
        return super().__new__(cls, keep_graph)

class Capture(torch.cuda.graph):
    pass

graph, side, given = Graph(), torch.cuda.Stream(), torch.ones(300, 1000, device="cuda")
with Capture(graph, pool=torch.cuda.graph_pool_handle(), stream=side) as nothing:
    made = model[0](given)
graph.replay()
graph.debug_dump("graph.dot")
assert nothing is None and made.shape == (300, 1000)
assert isinstance(torch.cuda.graph(graph), torch.cuda.graph)
assert isinstance(torch.cuda.stream(side), torch.cuda.StreamContext)
assert not torch.cuda.graphs.is_current_stream_capturing()
graphed = torch.cuda.make_graphed_callables(model, (given,))
""")
    line = TRAIN.count("\n") + 18
    assert any(f"line {line}: torch.cuda.make_graphed" in note for note in row["notes"])


def test_stand_ins_take_what_pytorch_takes_and_phases_have_peaks_of_their_own():
    """Each replaced function and method is held against the real one's signature."""
    process = run("-m", "tests.probes.torch_cuda")
    assert process.returncode == 0, process.stderr
    found = json.loads(process.stdout)
    assert found["wrong"] == {}
    assert found["compared"] > 100
    assert len(found["peaks"]) == 4
    assert all(peaks == [20 * 2**20, 4 * 2**20] for peaks in found["peaks"].values()), found


def test_tensors_are_made_and_moved_by_the_old_names_of_their_types(answer):
    """And a kept one counts: 4 bytes for each of 2**20 numbers."""
    answer("""
import numpy
Tensor = torch.cuda.FloatTensor
before = torch.cuda.memory_allocated()
kept = Tensor(1024, 1024).fill_(1.0)
assert torch.cuda.memory_allocated() - before == 4 * 2**20
assert kept.shape == Tensor(torch.Size([1024, 1024])).shape
made = [Tensor(numpy.zeros((3, 2))), Tensor([[1.0, 2.0]] * 3), torch.zeros(3, 2).type(Tensor)]
for tensor in made + [torch.zeros(3, 2).type("torch.cuda.FloatTensor")]:
    assert tensor.shape == (3, 2) and tensor.is_cuda and tensor.dtype == torch.float32
    assert isinstance(tensor, Tensor) and not isinstance(tensor, torch.cuda.LongTensor)
    assert tensor.type() == "torch.cuda.FloatTensor"
whole = kept.type(torch.LongTensor)
assert whole.device.type == "cpu" and whole.dtype == torch.int64
assert kept.type(torch.float16).is_cuda
""")


def test_distributions_on_a_gpu_check_their_parameters_and_samples(answer):
    answer("""
from torch.distributions import Categorical, Normal
model = torch.nn.Linear(8, 4).cuda()
out = model(torch.randn(2, 8, device="cuda"))
for made in (Categorical(logits=out), Categorical(probs=out.softmax(-1)), Normal(out, out.exp())):
    made.log_prob(made.sample()).sum().backward(retain_graph=True)
""")
