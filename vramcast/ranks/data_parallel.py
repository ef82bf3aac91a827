"""DistributedDataParallel, with the buckets of gradients that its C++ code keeps on each rank.

Gradients are copied into buckets, and a full bucket is added up over all ranks. The rules are those
of torch/csrc/distributed/c10d/reducer.cpp: parameters fill the buckets in reverse order, as their
gradients come; the first bucket is closed at 1 MiB, the others at `bucket_cap_mb`. With
`gradient_as_bucket_view` a gradient is a part of its bucket, else it has memory of its own. Inputs
are moved to the GPU in `device_ids` (`_pre_forward` in torch/nn/parallel/distributed.py).

What is compiled within a forward pass is cut at the buckets' ends, into graphs with a backward pass
each (`DDPOptimizer` in torch/_dynamo/backends/distributed.py): so it asks in which module it is.
"""

import contextlib

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms.join import JoinHook

from vramcast import compat
from vramcast.memory.tracker import Tracker

CUDA = torch.device("cuda:0")
FIRST = 2**20  # bytes: kDefaultFirstBucketBytes
HOOKED = "what a communication hook of DistributedDataParallel allocates is not counted"


def install(tracker: Tracker, notes: list[str]) -> None:
    """Give PyTorch's class these methods: also where a library holds the class already.

    `notes` is for what they leave out.
    """

    def __init__(
        self, module, device_ids=None, output_device=None, dim=0, broadcast_buffers=True,
        init_sync=True, process_group=None, bucket_cap_mb=None, *args,
        gradient_as_bucket_view=False, static_graph=False, **kwargs,
    ) -> None:  # fmt: skip
        nn.Module.__init__(self)
        self.module, self.device_ids = module, device_ids
        self.process_group = process_group
        self.require_backward_grad_sync = True
        self._views = gradient_as_bucket_view
        self.static_graph = static_graph
        ignored = set(getattr(module, "_ddp_params_and_buffers_to_ignore", ()))
        named = module.named_parameters()
        trained = [p for name, p in named if p.requires_grad and name not in ignored]
        if not trained:
            raise RuntimeError(
                "DistributedDataParallel is not needed when a module doesn't have any "
                "parameters that require a gradient."
            )
        self.device = trained[0].device
        self.bucket_bytes_cap = int((bucket_cap_mb or 25) * 2**20)
        with torch.no_grad():
            for parameters in _buckets(trained, self.bucket_bytes_cap):
                _Bucket(self, parameters, tracker)

    def forward(self, *inputs, **kwargs):
        if self.device_ids:  # and tensors within lists, tuples and dictionaries
            moved, named = compat.moved_inputs(inputs, kwargs, CUDA, False)
            inputs, kwargs = moved[0], named[0]
        with self._inside_ddp_forward():
            return self.module(*inputs, **kwargs)

    @contextlib.contextmanager
    def no_sync(self):
        before, self.require_backward_grad_sync = self.require_backward_grad_sync, False
        try:
            yield
        finally:
            self.require_backward_grad_sync = before

    def __getstate__(self):
        return dict(self.__dict__)

    def _set_static_graph(self):
        self.static_graph = True

    def hook(self, *args):
        if HOOKED not in notes:
            notes.append(HOOKED)

    def join(self, *args, **kwargs):  # no rank has fewer batches here
        return contextlib.nullcontext()

    def join_hook(self, **kwargs):
        return JoinHook()

    parallel = nn.parallel.DistributedDataParallel
    parallel.__init__, parallel.forward, parallel.no_sync = __init__, forward, no_sync
    parallel.train, parallel.__getstate__ = nn.Module.train, __getstate__
    parallel.join, parallel.join_hook = join, join_hook
    parallel.register_comm_hook = parallel._register_builtin_comm_hook = hook
    parallel._set_static_graph = _set_static_graph


def _buckets(parameters: list[nn.Parameter], cap: int) -> list[list[nn.Parameter]]:
    """The parameters of each bucket, up to its size; all have one data type and device."""
    full, filling, limits = [], {}, {}
    for parameter in reversed(parameters):
        kind = (parameter.dtype, parameter.device)
        filling.setdefault(kind, []).append(parameter)
        if sum(p.numel() * p.element_size() for p in filling[kind]) >= limits.get(kind, FIRST):
            full.append(filling.pop(kind))
            limits[kind] = cap
    return full + list(filling.values())


class _Bucket:
    """A flat buffer for some parameters' gradients, filled by hooks on them."""

    def __init__(self, owner, parameters: list[nn.Parameter], tracker: Tracker) -> None:
        size = sum(parameter.numel() for parameter in parameters)
        self.flat = parameters[0].new_empty(size)
        self.owner, self.waiting, self.count = owner, len(parameters), len(parameters)
        tracker.label([self.flat], "gradients")
        start = 0
        for parameter in parameters:
            view = self.flat[start : start + parameter.numel()].view_as(parameter)
            start += parameter.numel()
            parameter.register_post_accumulate_grad_hook(self._fill(view))

    def _fill(self, view: torch.Tensor):
        def hook(parameter: nn.Parameter) -> None:
            if self.owner._views:
                parameter.grad = view
            if not self.owner.require_backward_grad_sync:
                return
            self.waiting -= 1
            if self.waiting == 0:
                self.waiting = self.count
                dist.all_reduce(self.flat, group=self.owner.process_group)

        return hook
