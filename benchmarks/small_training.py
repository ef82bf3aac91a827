"""The small network, trained with one or several techniques of PyTorch and of other libraries."""

import functools
from contextlib import nullcontext

import torch
import torch.distributed as dist
import torch.nn.functional as F
from bitsandbytes.functional import dequantize_4bit, quantize_nf4
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    CPUOffload,
    CPUOffloadPolicy,
    FullyShardedDataParallel,
    fully_shard,
)
from torch.distributed.fsdp.sharded_grad_scaler import ShardedGradScaler
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parametrize
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts
from torchao.optim import AdamW8bit, CPUOffloadOptimizer

from benchmarks.small_network import (
    COPIED,
    LARGEST_NORM,
    LOW_RANK,
    MICRO,
    MOMENTUM,
    RATES,
    SHORT_BETAS,
    STEPS,
    Network,
    batches,
    factors,
    flat,
    matrices,
    network,
    optimizer_of,
)  # fmt: skip


def shard(model: nn.Module, on: set[str]) -> nn.Module:
    """Apply the kinds of sharding and data parallelism that are asked for, in the right order.

    Raises ValueError if parameters would be both copied and sharded.
    """
    if COPIED & on and any("FSDP" in technique for technique in on):
        raise ValueError("DDP keeps the whole model on each GPU, and FSDP does not")
    if {"FSDP1", "FSDP1 offload"} & on:
        offload = CPUOffload("FSDP1 offload" in on)
        model = FullyShardedDataParallel(
            model, use_orig_params=True, cpu_offload=offload, device_id=torch.device("cpu")
        )
    if {"FSDP2", "FSDP2 offload"} & on:
        mesh = init_device_mesh("cpu", (dist.get_world_size(),))
        options = {"offload_policy": CPUOffloadPolicy(False)} if "FSDP2 offload" in on else {}
        for block in getattr(model, "module", model).blocks:
            fully_shard(block, mesh=mesh, **options)
        model = fully_shard(model, mesh=mesh, **options)
    if COPIED & on:
        model = DistributedDataParallel(model)
    return model


class LoRA(nn.Module):
    """A frozen weight, as it is or in 4 bits, plus a trained difference."""

    def __init__(self, weight: torch.Tensor, bits4: bool) -> None:
        super().__init__()
        self.a, self.b = factors(weight)
        self.quantized = quantize_nf4(weight.data, compress_statistics=True) if bits4 else None

    def forward(self, weight):
        if self.quantized:
            weight = dequantize_4bit(*self.quantized)
        return weight + torch.matmul(self.b, self.a)

    def right_inverse(self, weight):
        return weight.new_empty(0) if self.quantized else weight


def train_differences(model: Network, on: set[str]) -> None:
    """Freeze all but `shift`, and add a trained difference to each matrix of the blocks."""
    model.requires_grad_(False).shift.requires_grad_(True)
    torch.manual_seed(1)
    for name in matrices(model):
        layer = model.get_submodule(name.removesuffix(".weight"))
        difference = LoRA(layer.weight, "QLoRA" in on)
        parametrize.register_parametrization(layer, "weight", difference, unsafe=True)


def whole(model: nn.Module) -> torch.Tensor:
    """All parameters, gathered from all ranks, with trained differences added."""
    if isinstance(model, DistributedDataParallel):
        model = model.module
    sharded = isinstance(model, FullyShardedDataParallel)
    gathered = FullyShardedDataParallel.summon_full_params(model) if sharded else nullcontext()
    with gathered, torch.no_grad():
        found = [
            functools.reduce(getattr, name.split("."), model)
            for name, _ in network().named_parameters()
        ]
        return flat(
            getattr(tensor, "full_tensor", lambda tensor=tensor: tensor)() for tensor in found
        )


def make_optimizer(model: nn.Module, on: set[str], care: str) -> torch.optim.Optimizer:
    """The optimizer that is asked for, on the host or sharded if that is asked for.

    Raises ValueError if what is asked for cannot be meant.
    """
    name = optimizer_of(on)
    kind, options = {
        "SGD": (torch.optim.SGD, {"momentum": MOMENTUM}),
        "8 bits": (AdamW8bit, {"bf16_stochastic_round": care == "stochastic rounding"}),
        "Adafactor": (torch.optim.Adafactor, {"weight_decay": 0.0}),
        "bf16 states": (torch.optim.Adam, {"betas": SHORT_BETAS, "fused": True}),
    }[name]
    if care == "float32's eps":
        options["eps"] = (torch.finfo(torch.float32).eps, 1e-3)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if {"optimizer offload", "ZeRO-1"} <= on:
        raise ValueError("optimizer states are either on the host or shared out among the GPUs")
    if {"optimizer offload", "bf16 states"} <= on:
        raise ValueError("torchao's optimizer makes its states itself, on the host")
    if "optimizer offload" in on:
        return CPUOffloadOptimizer(trained, kind, lr=RATES[name], **options)
    if "ZeRO-1" in on:
        optimizer = ZeroRedundancyOptimizer(trained, kind, lr=RATES[name], **options)
    else:
        optimizer = kind(trained, lr=RATES[name], **options)
    if name == "bf16 states":
        own = getattr(optimizer, "optim", optimizer)  # ZeRO's has one inside, for its share
        for parameter in (one for group in own.param_groups for one in group["params"]):
            moment = torch.zeros_like(parameter, dtype=torch.bfloat16)
            own.state[parameter] = {"exp_avg": moment, "exp_avg_sq": moment.clone()}
            own.state[parameter]["step"] = torch.zeros(())
    return optimizer


def keep_products():
    """Checkpointing's policy: keep the results of matrix products, compute the rest again."""
    products = [torch.ops.aten.mm.default, torch.ops.aten.addmm.default]
    return create_selective_checkpoint_contexts(products)


def train(on: set[str], care: str = "") -> torch.Tensor:
    """The parameters after training with these techniques."""
    model = network()
    if "half" in on:  # GradScaler is made for float16
        model.to(torch.float16 if "scaler" in on else torch.bfloat16)
    if LOW_RANK & on:
        train_differences(model, on)
    if "frozen blocks" in on:
        model.blocks[0].requires_grad_(False)
    for technique, options in (
        ("checkpointing", {}),
        ("selective checkpointing", {"context_fn": keep_products}),
    ):
        for block in model.blocks if technique in on else ():
            again = functools.partial(checkpoint, block.forward, use_reentrant=False, **options)
            block.forward = again
    model = shard(model, on)
    optimizer = make_optimizer(model, on, care)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=STEPS)
    kind = ShardedGradScaler if care == "sharded scaler" else torch.amp.GradScaler
    scaler = kind("cpu", enabled="scaler" in on)

    def clip() -> None:
        if care == "unscale first":
            scaler.unscale_(optimizer)
        if care == "FSDP's own":
            model.clip_grad_norm_(LARGEST_NORM)
        else:
            torch.nn.utils.clip_grad_norm_(model.parameters(), LARGEST_NORM)

    def update(parameter) -> None:
        scaler.step(optimizer)
        scaler.update()
        parameter.grad = None

    if "in backward" in on:
        for parameter in filter(lambda parameter: parameter.requires_grad, model.parameters()):
            parameter.register_post_accumulate_grad_hook(update)
    rank, ranks = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    for images, labels, boost in batches(on):
        images, labels = images.chunk(ranks)[rank], labels.chunk(ranks)[rank]
        micro = MICRO if "accumulation" in on else len(labels)
        parts = list(zip(images.split(micro), labels.split(micro), strict=True))
        for number, (some, their) in enumerate(parts):
            last = number == len(parts) - 1
            offload = torch.autograd.graph.save_on_cpu(True)
            with (
                offload if "activation offload" in on else nullcontext(),
                torch.autocast("cpu", torch.bfloat16, enabled="mixed" in on),
            ):
                some = some.to(next(model.parameters()).dtype)
                loss = F.cross_entropy(model(some, boost), their) / len(parts)
            with model.no_sync() if care == "no_sync" and not last else nullcontext():
                scaler.scale(loss).backward()
            if "clipping" in on and (last or care != "once a step"):
                clip()
            if "schedule" in on and not last and care != "once a step":
                schedule.step()
        before = scaler.get_scale()
        if "in backward" not in on:
            scaler.step(optimizer)
            scaler.update()
        optimizer.zero_grad()
        if "schedule" in on and not (care == "skip both" and scaler.get_scale() < before):
            schedule.step()
    return whole(model)
