"""One rank of many in one process: the other ranks do not exist, but the script does not notice.

PyTorch's "fake" process group does this for collective operators.
"""

import functools
import sys

import torch
import torch.distributed as dist

from vramcast import compat
from vramcast.memory.tracker import Tracker
from vramcast.ranks import checkpoints


def install(tracker: Tracker, ranks: int) -> None:
    """Let scripts join a group of this many ranks, as rank 0, from now on."""

    def unbooked(ask):  # it runs the operator on whole tensors, for their shapes
        @functools.wraps(ask)
        def ask_unbooked(*args, **kwargs):
            with tracker.paused():
                return ask(*args, **kwargs)

        return ask_unbooked

    compat.wrap(compat.WHOLE_SHAPES, unbooked)
    compat.collectives_without_data()
    compat.draw_nothing()
    join = dist.init_process_group

    @functools.wraps(join)
    def join_alone(*args, **kwargs):
        if not dist.is_initialized():
            join("fake", store=compat.FakeStore(), rank=0, world_size=ranks)

    _everywhere(join, join_alone)
    group = dist.distributed_c10d.new_group

    @functools.wraps(group)
    def group_alone(*args, backend=None, **kwargs):
        return group(*args, **kwargs)

    dist.new_group = dist.distributed_c10d.new_group = group_alone
    for function, other in (
        (dist.all_gather_object, _all_gather_same),
        (dist.gather_object, _gather_same),
        (dist.scatter_object_list, _scatter_first),
        (dist.broadcast_object_list, _ignore),
        (dist.send_object_list, _ignore),
        (dist.recv_object_list, _nobody),
    ):
        _everywhere(function, other)
    checkpoints.install(_everywhere)
    for method in compat.MESH_METHODS:
        compat.wrap(method, _with_numbers)
    _everywhere(dist.init_device_mesh, _with_numbers(dist.init_device_mesh))
    compat.wrap(compat.FSDP2_CHUNKS, lambda function: _own_chunk)
    torch.multiprocessing.spawn = _first_of_spawned


def _everywhere(function, other) -> None:
    """Replace a function everywhere, also in PyTorch's modules that imported it by name."""
    for name, module in list(sys.modules.items()):
        if name.startswith("torch.distributed"):
            for key in [key for key, value in vars(module).items() if value is function]:
                setattr(module, key, other)


def torchruns(ranks: int) -> dict[str, str]:
    """The environment variables of the first of so many processes on one machine."""
    return {
        "RANK": "0", "LOCAL_RANK": "0", "GROUP_RANK": "0", "ROLE_RANK": "0",
        "WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks), "GROUP_WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500", "TORCHELASTIC_RUN_ID": "none",
    }  # fmt: skip


def _own_chunk(tensor: torch.Tensor, ranks: int, dim: int) -> list[torch.Tensor]:
    """Rank 0's chunk of a tensor, for FSDP2; to make thousands of chunks of others takes long."""
    return [tensor.narrow(dim, 0, -(-tensor.size(dim) // ranks))]


def _first_of_spawned(function, args=(), nprocs=1, join=True, daemon=False, start_method="spawn"):
    """In the place of `torch.multiprocessing.spawn`: do the first process's work in this one."""
    function(0, *args)


def _all_gather_same(object_list: list, obj, group=None) -> None:
    object_list[:] = [obj] * len(object_list)


def _gather_same(obj, object_gather_list=None, *args, **kwargs) -> None:
    if object_gather_list is not None:  # else it is another rank that gathers
        object_gather_list[:] = [obj] * len(object_gather_list)


def _scatter_first(
    scatter_object_output_list: list, scatter_object_input_list=None, *args, **kwargs
) -> None:
    if scatter_object_input_list:
        scatter_object_output_list[0] = scatter_object_input_list[0]


def _nobody(*args, **kwargs) -> int:
    return 0


def _ignore(*args, **kwargs) -> None:
    pass


def _with_numbers(method):
    """Make tensors with numbers meanwhile: a device mesh is a tensor whose numbers matter."""

    @functools.wraps(method)
    def wrapped(*args, **kwargs):
        with compat.unset_fake_temporarily():
            return method(*args, **kwargs)

    return wrapped
