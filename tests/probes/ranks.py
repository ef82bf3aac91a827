"""Run an unmodified script on stand-ins, and save what its training looked like in each process.

`python -m tests.probes.ranks SCRIPT OUT OPTIONS`, alone or under torchrun. OPTIONS, as JSON:
`images` of the training set are kept (28), or `reviews` (all); `precision` replaces the script's;
`batch` is the batch size of a script for one process, which then sees what the ranks of another
see together; `scale` is where loss scaling begins; `sgd` is the rate of plain SGD in Adam's place,
which does not hide the size of a gradient. Saved in OUT/rank-N.pt is a dictionary:

    losses      of all ranks together, one per optimizer step
    texts       of a language model, the reviews of each step with their labels
    units       what is sharded together: name, class and number of parameters
    created     when this process began and ended to create the model (seconds, of one clock)
    whole       parameters of the model before sharding
    parameters  that this rank's optimizer holds
    state       numbers that it keeps for them
    forwards    of all blocks, in the first training step (recomputed ones count)
    kept        bytes that the first forward pass leaves behind for the backward pass
    offload     how many units keep their parameters, and their gradients, on the host
    pinned      tensors for which the script asked for pinned memory
    sparse      whether all BigBird layers still attend block by block
"""

import json
import os
import runpy
import sys
import time
import weakref

import torch
import torch.distributed as dist
from lightning import Fabric
from torch.distributed.fsdp import FSDPModule
from torch.distributed.fsdp import FullyShardedDataParallel as FSDP
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, DistributedSampler
from torchvision.models import vision_transformer
from torchvision.models.vision_transformer import MLPBlock

from rehearsal import data, hardware, language, reviews, weights
from rehearsal.observer import _held

script, out, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
hardware.install(2)
data.install()
weights.install()
reviews.TRAIN, reviews.TEST = options.get("reviews", reviews.TRAIN), 8
if script.startswith("bonus"):  # whose libraries take seconds to import
    language.install()
import local_utilities  # noqa: E402, after the data's stand-in

data.RANKS_SHARE = 1
seen = {"losses": [], "texts": [], "forwards": 0, "pinned": 0, "sparse": True}
models = []


def keep_few_images(init):
    def wrapped(self, *args, **kwargs):
        init(self, *args, **kwargs)
        self.data, self.targets = self.data[: options.get("images", 28)], self.targets
        self.targets = self.targets[: len(self.data)]

    return wrapped


def see_what_all_ranks_see(cifar10_loaders):
    def wrapped(batch_size):
        train, val, test = cifar10_loaders(options["batch"])
        order = DistributedSampler(train.dataset, num_replicas=1, rank=0)
        train = DataLoader(
            train.dataset, options["batch"], sampler=order, collate_fn=train.collate_fn
        )
        return train, val, test

    return wrapped


def other_precision(init):
    def wrapped(self, *args, **kwargs):
        kwargs.pop("plugins", None)
        init(self, *args, **kwargs | {"precision": options["precision"]})

    return wrapped


def watch_setup(setup):
    def wrapped(self, module, *args, **kwargs):
        seen["whole"] = sum(parameter.numel() for parameter in module.parameters())
        models.append(module)
        result = setup(self, module, *args, **kwargs)
        wrapped_model = (result[0] if isinstance(result, tuple) else result)._forward_module
        models.append(wrapped_model)
        return result

    return wrapped


class Storages(TorchDispatchMode):
    """Remembers, without keeping it alive, all memory that operators return."""

    def __init__(self) -> None:
        super().__init__()
        self.known = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **kwargs or {})
        for value in result if isinstance(result, (tuple, list)) else [result]:
            if type(value) is torch.Tensor:
                storage = value.untyped_storage()
                self.known[storage._cdata] = weakref.ref(storage)
        return result

    def bytes(self) -> int:
        alive = (reference() for reference in self.known.values())
        return sum(storage.nbytes() for storage in alive if storage is not None)


storages = Storages()


def watch_progress(iterate):
    def wrapped(self):
        for number, batch in enumerate(iterate(self)):
            training = self.title.startswith("Epoch")
            if training and isinstance(batch[0], list):
                seen["texts"].append((batch[0], batch[1].tolist()))
            if training and number == 0 and options.get("activations"):
                storages.__enter__()
            yield batch

    return wrapped


def watch_loss(show):
    def wrapped(self, loss):
        if options.get("activations") and "kept" not in seen:
            seen["kept"] = storages.bytes()
            storages.__exit__(None, None, None)
        show(self, loss)
        seen["losses"].append(self.last_loss.item())

    return wrapped


def count_forwards(module, args):
    if isinstance(module, MLPBlock) and module.training and not seen.get("parameters"):
        seen["forwards"] += 1


def after_step(optimizer, args, kwargs):
    for layer in getattr(getattr(models[0], "bert", None), "modules", list)():
        seen["sparse"] &= getattr(layer, "attention_type", "block_sparse") == "block_sparse"
    if "parameters" in seen:
        return
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    seen["parameters"] = sum(map(_held, parameters))
    seen["state"] = sum(
        _held(value)
        for parameter, state in optimizer.state.items()
        for value in state.values()
        if isinstance(value, torch.Tensor) and value.shape == parameter.shape
    )
    seen["units"], seen["offload"] = [], {"parameters": 0, "gradients": 0}
    for name, module in models[-1].named_modules():
        if isinstance(module, FSDP) and module._handle is not None:
            flat = module._handle.flat_param
            kind = type(module._fsdp_wrapped_module).__name__
            seen["units"].append((name, kind, flat._unpadded_unsharded_size.numel()))
            seen["offload"]["parameters"] += module._handle._offload_params
            seen["offload"]["gradients"] += hasattr(flat, "_cpu_grad")
        elif isinstance(module, FSDPModule):
            parameters = module._get_fsdp_state()._fsdp_param_group.fsdp_params
            numbers = sum(parameter._orig_size.numel() for parameter in parameters)
            seen["units"].append((name, type(module).__name__, numbers))


def watch_pinning(torch_function):
    def wrapped(self, func, types, args=(), kwargs=None):
        seen["pinned"] += getattr(func, "__name__", "") == "pin_memory"
        return torch_function(self, func, types, args, kwargs)

    return wrapped


def watch_creation(create):
    def wrapped(*args, **kwargs):
        start = time.monotonic()
        model = create(*args, **kwargs)
        time.sleep(0.5)  # as a download would take
        seen["created"] = (start, time.monotonic())
        return model

    return wrapped


vision_transformer._vision_transformer = watch_creation(vision_transformer._vision_transformer)
data.Digits.__init__ = keep_few_images(data.Digits.__init__)
if "batch" in options:
    local_utilities.cifar10_loaders = see_what_all_ranks_see(local_utilities.cifar10_loaders)
if "precision" in options:
    Fabric.__init__ = other_precision(Fabric.__init__)
    policy = torch.distributed.fsdp.MixedPrecisionPolicy
    torch.distributed.fsdp.MixedPrecisionPolicy = lambda *args, **kwargs: policy()
if "scale" in options:
    init = torch.amp.GradScaler.__init__
    torch.amp.GradScaler.__init__ = lambda self, device="cuda", init_scale=0, **kwargs: init(
        self, device, options["scale"], **kwargs
    )
if "sgd" in options:
    torch.optim.Adam = lambda parameters, lr: torch.optim.SGD(parameters, options["sgd"])
for size in language.SIZES.values():  # without chance, so that it can be compared
    size |= dict.fromkeys(("dropout", "attention_dropout", "seq_classif_dropout"), 0.0)
    size |= dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), 0.0)
Fabric.setup, Fabric.setup_module = watch_setup(Fabric.setup), watch_setup(Fabric.setup_module)
hardware._CudaMeansCpu.__torch_function__ = watch_pinning(hardware._CudaMeansCpu.__torch_function__)
local_utilities.Progress.__iter__ = watch_progress(local_utilities.Progress.__iter__)
local_utilities.Progress.show = watch_loss(local_utilities.Progress.show)
register_optimizer_step_post_hook(after_step)
torch.nn.modules.module.register_module_forward_pre_hook(count_forwards)
sys.argv = [script]
runpy.run_path(script, run_name="__main__")
torch.save(seen, f"{out}/rank-{os.environ.get('RANK', '0')}.pt")
if dist.is_initialized():
    dist.destroy_process_group()
sys.stdout.flush()
os._exit(0)  # as rehearsal/run.py does: a thread of gloo's can abort Python's shutdown
