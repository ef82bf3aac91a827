"""Scripts for several GPUs in plain PyTorch: predicted, and held against formulas."""

import pytest

from tests.scripts import DEEP, LOOP, RANK, WEIGHTS
from tests.warm import predicted
from vramcast.run.source import several_gpus


@pytest.mark.parametrize(
    ("text", "several"),
    [
        ('fabric = Fabric(devices="auto", strategy="ddp")', True),
        ("trainer = Trainer(strategy = 'fsdp_cpu_offload')", True),
        ("strategy = FSDPStrategy()", True),
        ('fabric = Fabric(devices=1, strategy="auto")', False),
    ],
)
def test_a_script_shows_that_it_is_for_several_gpus(text, several):
    assert several_gpus(text.encode()) == several


@pytest.mark.parametrize("views", [False, True])
def test_distributed_data_parallel_keeps_buckets(script, views):
    """As large as all gradients; with views, they are the gradients. A ring moves them twice."""
    wrapped = f"""
from torch.nn.parallel import DistributedDataParallel as DDP
model = DDP(model, device_ids=[rank], gradient_as_bucket_view={views})
"""
    file = script(
        RANK + DEEP + wrapped + LOOP.replace("zero_grad()", "zero_grad(set_to_none=True)")
    )
    row = predicted(file)
    kept = row["breakdown_gb"]["gradients"]
    assert kept == pytest.approx(WEIGHTS * (1 if views else 2), rel=0.13)  # the last is on its way
    moved = row["cost"]["between_gpus_gb_per_step"]
    assert moved == pytest.approx(2 * 3 / 4 * WEIGHTS, rel=0.01)


def test_accumulation_without_sync_moves_nothing_meanwhile(script):
    loop = """
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset
model = DDP(model)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
data = TensorDataset(torch.zeros(1000, 1024))
sampler = DistributedSampler(data)
for epoch in range(2):
    sampler.set_epoch(epoch)
    for (images,) in DataLoader(data, batch_size=8, sampler=sampler):
        with model.no_sync():
            model(images.cuda()).sum().backward()
        model(images.cuda()).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
"""
    cost = predicted(script(RANK + DEEP + loop))["cost"]
    assert cost["between_gpus_gb_per_step"] == pytest.approx(2 * 3 / 4 * WEIGHTS, rel=0.01)


@pytest.mark.parametrize("kind", ["FSDP1", "FSDP2"])
def test_sharding_in_plain_pytorch(script, kind):
    wrapped = {
        "FSDP1": "from torch.distributed.fsdp import FullyShardedDataParallel as FSDP\n"
        "model = FSDP(nn.Sequential(*map(FSDP, model)), device_id=rank)\n",
        "FSDP2": "from torch.distributed.fsdp import fully_shard\n"
        "for layer in model: fully_shard(layer)\nfully_shard(model)\n",
    }[kind]
    row = predicted(script(RANK + DEEP + wrapped + LOOP))
    whole = predicted(script(DEEP + LOOP))
    assert row["breakdown_gb"]["gradients"] < 0.6 * whole["breakdown_gb"]["gradients"]


def test_a_thousand_ranks_share_the_parameters(script):
    text = """
import os
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
dist.init_process_group("nccl")
torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
model = nn.Sequential(*[nn.Linear(1024, 1024, bias=False) for _ in range(8)]).cuda()
for layer in model:
    fully_shard(layer)
optimizer = torch.optim.Adam(fully_shard(model).parameters())
for _ in range(4):
    model(torch.ones(8192, 1024, device="cuda")).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
"""
    few, many = (predicted(script(text), "--gpus", ranks)["breakdown_gb"] for ranks in (4, 1024))
    assert many["optimizer"] == pytest.approx(few["optimizer"] * 4 / 1024, rel=0.01)
    assert many["activations"] == pytest.approx(few["activations"], rel=0.01)


def test_of_spawned_processes_the_first_is_predicted(script):
    row = predicted(
        script("""
import os
import torch.distributed as dist
import torch.multiprocessing as mp

def train(rank, world, width):
    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = "localhost", "12355"
    dist.init_process_group("nccl", rank=rank, world_size=world)
    model = nn.parallel.DistributedDataParallel(nn.Linear(width, width, bias=False).to(rank))
    optimizer = torch.optim.Adam(model.parameters())
    for _ in range(4):
        model(torch.zeros(8, width).to(rank)).sum().backward()
        optimizer.step()
    with torch.cuda.device(rank):
        most = torch.cuda.memory_stats(rank)["allocated_bytes.all.peak"]
    assert most == torch.cuda.max_memory_allocated() > 5 * 4 * width * width

if __name__ == "__main__":
    mp.spawn(train, args=(torch.cuda.device_count(), 1024), nprocs=torch.cuda.device_count())
""")
    )
    assert row["breakdown_gb"]["optimizer"] == pytest.approx(2 * 4 * 1024 * 1024 / 1e9, rel=0.01)
