"""DataParallel: one process with a replica of the model on each GPU; what the first GPU needs.

The first GPU has its share of each batch, the outputs of all (torch/nn/parallel/data_parallel.py),
and twice the gradients: its replica's own, all at once, and their sums, which come next to them
(`reduce_add_coalesced` in torch/nn/parallel/comm.py).
"""

import torch
from torch import nn
from torch.func import functional_call
from torch.utils._pytree import tree_flatten, tree_map_only, tree_unflatten

CUDA = torch.device("cuda:0")
FLAT = 10 * 2**20  # bytes of gradients that are added up at once (`buffer_size` there)
NOTE = (
    "DataParallel: this is the need of the first of {} GPUs, which has the outputs of all; with "
    "DistributedDataParallel, a process for each GPU, it needs less"
)


class _Shared(torch.autograd.Function):
    """Parameters of all replicas: the first one's are the model's own, gradients are added up."""

    @staticmethod
    def forward(ctx, *parameters):
        return tuple(parameter.detach() for parameter in parameters)

    @staticmethod
    def backward(ctx, *gradients):
        present = [gradient for gradient in gradients if gradient is not None]
        size = sum(gradient.numel() for gradient in present)
        flat = present[0].new_empty(min(size, FLAT // present[0].element_size()))
        sums = [None if one is None else torch.empty_like(one) for one in gradients]
        del flat
        return tuple(sums)


class _Gathered(torch.autograd.Function):
    """The first replica's output among those of all."""

    @staticmethod
    def forward(ctx, output, replicas, dim):
        ctx.dim, ctx.shape = dim, output.shape
        if output.dim() == 0:  # a loss of each replica
            return output.new_empty(replicas)
        shape = list(output.shape)
        shape[dim] *= replicas
        return output.new_empty(shape)

    @staticmethod
    def backward(ctx, gradient):
        if not ctx.shape:
            return gradient[0], None, None
        return gradient.narrow(ctx.dim, 0, ctx.shape[ctx.dim]), None, None


def install(notes: list[str]) -> None:
    """Let DataParallel run the first replica; a note says what the answer is."""

    def scatter(self, inputs, kwargs, device_ids):
        leaves, form = tree_flatten((inputs, kwargs))
        parts = [
            leaf.chunk(len(device_ids), self.dim) if isinstance(leaf, torch.Tensor) else None
            for leaf in leaves
        ]
        used = min((len(part) for part in parts if part), default=len(device_ids))
        first = [part[0].to(CUDA) if part else leaf for part, leaf in zip(parts, leaves)]
        inputs, kwargs = tree_unflatten(first, form)
        return [inputs] * used, [kwargs] * used

    def replicate(self, module, device_ids):
        note = NOTE.format(len(self.device_ids))
        if note not in notes:
            notes.append(note)
        named = {name: p for name, p in module.named_parameters() if p.requires_grad}
        shared = _Shared.apply(*named.values()) if torch.is_grad_enabled() and named else ()
        replica = dict(zip(named, shared))
        return [lambda *args, **kwargs: functional_call(module, replica, args, kwargs)]

    def parallel_apply(self, replicas, inputs, kwargs):
        return [replicas[0](*inputs[0], **kwargs[0]), len(inputs)]

    def gather(self, outputs, output_device):
        output, replicas = outputs
        return tree_map_only(
            torch.Tensor, lambda tensor: _Gathered.apply(tensor, replicas, self.dim), output
        )

    parallel = nn.DataParallel
    parallel.scatter, parallel.replicate = scatter, replicate
    parallel.parallel_apply, parallel.gather = parallel_apply, gather
