"""Call operators again and again, and print what came of each call, as JSON: see test_gpu.py."""

import json

import torch
import torch.nn.functional as F

from vramcast import gpus
from vramcast.device import mode as gpu
from vramcast.memory.tracker import Tracker

mode = gpu.install(Tracker(), gpus.DEFAULT, 1)


def seen(tensor, inputs):
    """All that decides about memory: shape, place in the storage, and whose storage that is."""
    shares = [tensor.untyped_storage()._cdata == i.untyped_storage()._cdata for i in inputs]
    return [
        str(tensor.dtype), tuple(tensor.shape), tensor.stride(), tensor.storage_offset(),
        str(tensor.device), tensor.requires_grad, tensor.is_inference(),
        tensor.untyped_storage().nbytes(), shares,
    ]  # fmt: skip


CALLS = {
    "view": lambda x, w: [x.view(-1), x.t(), x[1:], x[:, ::2], x.expand(3, 4, 6), x.unsqueeze(0)],
    "in place": lambda x, w: [x.add_(1), x.mul_(x), w.detach().copy_(w)],
    "numbers": lambda x, w: [x.long() + 1, x.long() + 1.0, x.long() + True, x > 0],
    "tuples": lambda x, w: [*x.split(2), *x.max(0), *torch.var_mean(x, 1)],
    "lists": lambda x, w: [torch.cat([x, x]), torch.cat([x, x, x]), *torch._foreach_add([x, x], 1)],
    "factories": lambda x, w: [torch.ones(2, device="cuda"), torch.ones(2), x.new_zeros(3)],
    "precisions": lambda x, w: [x.half(), x.bfloat16(), x.double(), x.to("cpu"), x.to(torch.long)],
    "products": lambda x, w: [F.linear(x, w), x @ w.t(), F.layer_norm(x, [6])],
    "complex": lambda x, w: [torch.view_as_complex(x.view(4, 3, 2)).conj().imag, x],
    "resized": lambda x, w: [x.clone().resize_(2, 2), x.clone().t_(), x.clone().unsqueeze_(0)],
}
found = {}
with mode:
    for name, call in CALLS.items():
        for kind in ("", " without gradients", " for inference", " in double precision"):
            torch.set_default_dtype(torch.float64 if "double" in kind else torch.float32)
            context = {" without gradients": torch.no_grad, " for inference": torch.inference_mode}
            rounds = []
            for _ in range(4):
                with context.get(kind, torch.enable_grad)():
                    x = torch.ones(4, 6, device="cuda", dtype=torch.float32)
                    w = torch.ones(5, 6, device="cuda", dtype=torch.float32)
                    w.requires_grad_("gradients" not in kind and "inference" not in kind)
                    rounds.append([seen(result, [x, w]) for result in call(x, w)])
            found[name + kind] = rounds
print(json.dumps({"found": found, "remembered": len(mode.results.entries)}))
