"""Run an unmodified script on stand-ins and few images, and save what its optimizer was given.

`python -m tests.probes.training SCRIPT IMAGES PRECISION OUT.pt`: IMAGES of the training set are
kept; PRECISION replaces Fabric's, or is "own". Saved is a dictionary of lists with one entry per
optimizer step: `gradients` and `parameters` (flat float32) where all gradients are there, `rates`,
`dtypes`; `batches` (images per forward pass in training) and `losses`; and `final` (flat
parameters); `frozen` holds, as they were first and last, the parameters that are not trained and
the codes in the place of some.
"""

import runpy
import sys

import torch
import torch.nn.functional as F
from lightning import Fabric
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torchvision.models.vision_transformer import VisionTransformer

from rehearsal import data, hardware, weights

script, images, precision, out = sys.argv[1:]
hardware.install()
data.install()
weights.install()

full = data.Digits.__init__
seen = {name: [] for name in ("gradients", "parameters", "rates", "batches", "dtypes", "losses")}


def few_images(self, *args, **kwargs):
    full(self, *args, **kwargs)
    self.data, self.targets = self.data[: int(images)], self.targets[: int(images)]


def other_precision(init=Fabric.__init__):
    def wrapped(self, *args, **kwargs):
        init(self, *args, **kwargs | {"precision": precision})

    return wrapped


def before_step(optimizer, args, kwargs):
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    if all(p.grad is not None for p in parameters):  # not one by one, in the backward pass
        seen["parameters"].append(flat(parameters))
        seen["gradients"].append(flat([p.grad for p in parameters]))
    seen["rates"].append(float(optimizer.param_groups[0]["lr"]))
    seen["dtypes"].append({p.dtype for p in parameters})


def before_forward(module, args):
    if isinstance(module, VisionTransformer) and module.training:
        seen["batches"].append(len(args[0]))
        if "model" not in seen:
            seen["model"], seen["frozen"] = module, [frozen(module)]


def frozen(model):
    kept = [p for p in model.parameters() if not p.requires_grad]
    kept += [module.quantized[0] for module in model.modules() if hasattr(module, "quantized")]
    return [tensor.detach().clone() for tensor in kept]


def flat(tensors):
    return torch.cat([tensor.detach().float().flatten() for tensor in tensors])


def noted_loss(*args, cross_entropy=F.cross_entropy, **kwargs):
    loss = cross_entropy(*args, **kwargs)
    seen["losses"].append(loss.item())
    return loss


data.Digits.__init__ = few_images
if precision != "own":
    Fabric.__init__ = other_precision()
register_optimizer_step_pre_hook(before_step)
F.cross_entropy = noted_loss
torch.nn.modules.module.register_module_forward_pre_hook(before_forward)
sys.argv = [script]
runpy.run_path(script, run_name="__main__")
model = seen.pop("model")
seen["frozen"].append(frozen(model))
seen["final"] = flat(model.parameters())
torch.save(seen, out)
