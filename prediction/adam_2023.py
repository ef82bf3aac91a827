"""Adam's step over lists of tensors as PyTorch took it in mid-2023, for its temporary lists.

torch 2.0's `_multi_tensor_adam` (torch/optim/adam.py) adds epsilon out of place: next to the list
of square roots stands one of denominators. Today it is added in place.
"""

import importlib

import torch


def multi_tensor_adam(
    params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, state_steps, *,
    beta1, beta2, lr, weight_decay, eps, amsgrad, **others,
):  # fmt: skip
    """In the place of `torch.optim.adam._multi_tensor_adam`: as many bytes, no useful numbers."""
    if not params:
        return
    torch._foreach_add_(state_steps, 1)
    if weight_decay:
        grads = torch._foreach_add(grads, params, alpha=weight_decay)
    torch._foreach_lerp_(exp_avgs, grads, 1 - beta1)
    torch._foreach_mul_(exp_avg_sqs, beta2)
    torch._foreach_addcmul_(exp_avg_sqs, grads, grads, 1 - beta2)
    if amsgrad:
        torch._foreach_maximum_(max_exp_avg_sqs, exp_avg_sqs)
    roots = torch._foreach_sqrt(max_exp_avg_sqs if amsgrad else exp_avg_sqs)
    torch._foreach_div_(roots, 1.0)
    denominators = torch._foreach_add(roots, eps)
    torch._foreach_addcdiv_(params, exp_avgs, denominators, -lr)


def install() -> None:
    """Let Adam take its steps so from now on. Cannot be undone."""
    # torch.optim hides its module of this name
    importlib.import_module("torch.optim.adam")._multi_tensor_adam = multi_tensor_adam
