"""FSDP2 over several GPUs, for a script that is written for one: what one of them needs."""

import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.utils.weak import TensorWeakRef, WeakTensorKeyDictionary

from vramcast.techniques.weights import blocks_of


class Sharded:
    """Shards models: each repeated block, and what is left of a model, is gathered for its use.

    The script still finds one GPU, and each rank has a batch of the script's size.
    """

    def __init__(self, ranks: int) -> None:
        self.ranks = ranks
        self.shards = WeakTensorKeyDictionary()  # by the parameters in whose places they are

    def __call__(self, model: torch.nn.Module) -> None:
        """Shard a model. Raises NotApplied if it has no repeated blocks."""
        blocks = blocks_of(model)
        if not dist.is_initialized():
            dist.init_process_group("nccl")
        mesh = dist.init_device_mesh("cuda", (self.ranks,))
        whole = model.named_parameters(remove_duplicate=False)
        whole = {name: TensorWeakRef(one) for name, one in whole}  # which have to be freed
        for block in blocks:
            fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)
        for name, shard in model.named_parameters(remove_duplicate=False):
            if (before := whole[name]()) is not None:
                self.shards[before] = shard

    def of(self, groups: list[dict]) -> list[dict]:
        """An optimizer's groups with the shards in the places of whole parameters."""
        return [group | {"params": [self._of(one) for one in group["params"]]} for group in groups]

    def _of(self, parameter: torch.Tensor | tuple) -> torch.Tensor | tuple:
        if isinstance(parameter, tuple):  # with its name
            return parameter[0], self._of(parameter[1])
        return self.shards.get(parameter, parameter)
