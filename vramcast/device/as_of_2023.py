"""PyTorch's rules of mid-2023, with which the published figures were measured (2.1.0.dev20230623).

`install` replaces today's rules by these. No number here is fitted to a published figure.
"""

import functools

import torch
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.utils._pytree import tree_leaves

from vramcast import compat
from vramcast.device.mode import Gpu
from vramcast.device.streams import Event, Stream
from vramcast.memory.blocks import multiple
from vramcast.memory.tracker import Tracker
from vramcast.operators import registry
from vramcast.operators.attention import copies
from vramcast.operators.registry import FLOAT
from vramcast.ranks.collectives import group_of

aten = torch.ops.aten


def install(mode: Gpu) -> None:
    """Use the rules of 2023 from now on."""
    compat.wrap(compat.ADAM_ON_LISTS, lambda function: multi_tensor_adam)
    registry.shape("_scaled_dot_product_flash_attention", flash_attention)
    forward, backward = (
        aten._scaled_dot_product_flash_attention.default,
        aten._scaled_dot_product_flash_attention_backward.default,
    )
    registry.register(forward, buffers=flash_1_forward)
    registry.register(backward, buffers=flash_1_backward)
    FullyShardedDataParallel.__init__ = unlimited(FullyShardedDataParallel.__init__)
    mode.collective = Communicators(mode.tracker).run


def multi_tensor_adam(
    params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, state_steps, *,
    beta1, beta2, lr, weight_decay, eps, amsgrad, **others,
):  # fmt: skip
    """In the place of `torch.optim.adam._multi_tensor_adam`: the same bytes, no useful numbers.

    torch 2.0 (torch/optim/adam.py) adds epsilon out of place, so that a list of denominators exists
    beside the list of square roots. Since July 2023 it adds in place (pytorch issue 97712).
    """
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


def flash_attention(query, key, value, *args, **kwargs):
    """FlashAttention's results, [batch, heads, tokens, size], with the memory layout of 2023.

    In memory, the output was [batch, tokens, heads, size] (torch 2.1.0,
    torch/_meta_registrations.py). Today it has the layout of its query, which
    `nn.MultiheadAttention` makes as [tokens, batch, heads, size]. So what that layer does with the
    output was a copy then, and is a view now.
    """
    output, *others = compat.flash_shapes(query, key, value, *args, **kwargs)
    batch, heads, tokens, size = output.shape
    return output.new_empty(batch, tokens, heads, size).transpose(1, 2), *others


def flash_1_forward(args: tuple) -> list[int]:
    """Bytes that FlashAttention 1 took while it ran: copies of its inputs, and of its output.

    Query, key and value were copied to [batch * tokens, heads, size] where `reshape` could not make
    a view (attention.cu). The output was also kept in float32 where the keys took more than one
    block (`o_tmp` of mha_fwd in aten/src/ATen/native/transformers/cuda/flash_attn/fmha_api.cpp,
    torch 2.0 and 2.1.0.dev).
    """
    return copies(*args[:3]) + _in_blocks(args[0])


def flash_1_backward(args: tuple) -> list[int]:
    """The same in the backward pass, with the output's gradient (`dq_tmp`, `softmax_d`)."""
    batch, heads, tokens, _ = args[1].shape
    rows = batch * heads * multiple(tokens, 16)
    return [*copies(*args[:4]), rows * FLOAT, *_in_blocks(args[1])]


def _in_blocks(query: torch.Tensor) -> list[int]:
    _, _, tokens, size = query.shape
    return [query.numel() * FLOAT] if tokens > (128 if size > 64 else 256) else []


def unlimited(init):
    """FSDP without its rate limiter: pull request 104900 made it the default in July 2023."""

    @functools.wraps(init)
    def init_unlimited(*args, **kwargs) -> None:
        init(*args, **{"limit_all_gathers": False} | kwargs)

    return init_unlimited


class Communicators:
    """NCCL's process groups: each had a stream of its own, on which all of its collectives ran.

    That stream waited for the caller's and was recorded as a user of input and output; then the
    caller's stream waited for it (ProcessGroupNCCL::collective and _allgather_base in torch 2.1.0's
    torch/csrc/distributed/c10d/ProcessGroupNCCL.cpp, until pull request 148590).
    """

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self.streams: dict[str, Stream] = {}

    def run(self, args: tuple) -> None:
        """Book a collective with these arguments; do nothing if they name no process group."""
        group = group_of(args)
        if group is None:
            return
        stream = self.streams.get(group) or self.streams.setdefault(group, Stream())
        self.tracker.groups.add(group)
        begin, end = Event(), Event()
        begin.record()
        stream.wait_event(begin)
        for tensor in tree_leaves(args):
            if isinstance(tensor, torch.Tensor):
                self.tracker.use(tensor, stream.number)
        end.record(stream)
        end.wait()
