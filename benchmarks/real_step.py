"""Count a training's memory on real tensors: python -m benchmarks.real_step SCRIPT [OPTION …]

Runs the unmodified script on the CPU, which takes real time, up to its second optimizer step, and
prints one JSON object: the bytes of parameters, gradients, the optimizer's states and what autograd
saved for the backward pass (a storage counts once), at the largest sum of these at the end of a
forward pass or of a step, and the largest sum of all storages that were alive from the first model
call on, without those that loaders hold. Nothing of vramcast is used. To the script there is a
GPU, "cuda", which is the CPU: so operators that PyTorch does otherwise on a GPU (foreach and
fused optimizers, attention, autocast, cuDNN) may take other temporaries. Meant for scripts on one
GPU without autocast.
"""

import json
import os
import runpy
import sys
import weakref
from pathlib import Path

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader

STEPS = 2


class Enough(BaseException):
    """The second optimizer step is done."""


def host(value):
    """A device, or what names one, with the CPU in the place of a GPU."""
    if isinstance(value, torch.device) and value.type == "cuda":
        return torch.device("cpu")
    return "cpu" if isinstance(value, str) and value.partition(":")[0] == "cuda" else value


class OnHost(TorchFunctionMode):
    """What is meant for a GPU is done on the CPU."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in (torch.Tensor.cuda, torch.Tensor.pin_memory):
            return args[0]
        kwargs = {name: host(value) for name, value in (kwargs or {}).items()}
        kwargs.pop("pin_memory", None)
        return function(*map(host, args), **kwargs)


class Storages(TorchDispatchMode):
    """Adds up the storages that operators make, as long as they are alive."""

    def __init__(self):
        super().__init__()
        self.known, self.alive, self.peak, self.paused = {}, 0, 0, True

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if not self.paused:
            self.see(result)
        return result

    def see(self, tensors) -> None:
        for tensor in torch.utils._pytree.tree_leaves(tensors):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                place, size = storage._cdata, storage.nbytes()
                if place not in self.known:
                    self.alive += size
                    self.known[place] = weakref.ref(
                        storage, lambda _, k=(place, size): self.gone(*k)
                    )
        self.peak = max(self.peak, self.alive)

    def gone(self, place: int, size: int, _) -> None:
        self.alive -= size
        self.known.pop(place, None)


class Count:
    """What a script's tensors take, by what they are for."""

    def __init__(self):
        self.storages, self.optimizers, self.models = Storages(), [], []
        self.saved, self.steps, self.largest = {}, 0, {}

    def install(self) -> None:
        """Be told of each model's call, of each step, and of what autograd saves."""
        call, make = torch.nn.Module.__call__, torch.optim.Optimizer.__init__
        fetch, backward = DataLoader.__iter__, torch.autograd.backward
        count, depth = self, 0

        def called(module, *args, **options):
            nonlocal depth
            if depth == 0 and any(True for _ in module.parameters()):
                count.begin(module, (args, options))
            depth += 1
            try:
                return call(module, *args, **options)
            finally:
                depth -= 1

        def made(optimizer, *args, **options):
            make(optimizer, *args, **options)
            count.optimizers.append(optimizer)
            optimizer.register_step_pre_hook(lambda *_: count.note())
            optimizer.register_step_post_hook(lambda *_: count.after_step())

        def batches(loader):
            loader.num_workers, loader.pin_memory = 0, False
            batch = fetch(loader)
            while True:
                paused, count.storages.paused = count.storages.paused, True
                try:
                    one = next(batch, None)
                finally:
                    count.storages.paused = paused
                if one is None:
                    return
                yield one

        def backwards(*args, **options):
            count.note()
            return backward(*args, **options)

        torch.nn.Module.__call__, torch.optim.Optimizer.__init__ = called, made
        DataLoader.__iter__, torch.autograd.backward = batches, backwards

    def begin(self, model: torch.nn.Module, given) -> None:
        """A model is called: its tensors and its inputs count."""
        if model not in self.models:
            self.models.append(model)
        self.storages.see([*model.parameters(), *model.buffers(), given])
        self.storages.paused = False

    def sums(self) -> dict[str, int]:
        """Bytes by kind; a storage that is of two kinds counts as the first."""
        parameters = [p for model in self.models for p in model.parameters()]
        parameters += [b for model in self.models for b in model.buffers()]
        states = [state for one in self.optimizers for state in one.state.values()]
        kinds = {
            "parameters": parameters,
            "gradients": [p.grad for p in parameters if p.grad is not None],
            "optimizer": torch.utils._pytree.tree_leaves([dict(state) for state in states]),
            "saved": [ref() for ref in self.saved.values()],
        }
        seen, found = set(), {}
        for kind, tensors in kinds.items():
            found[kind] = 0
            for tensor in tensors:
                if isinstance(tensor, torch.Tensor):
                    storage = tensor.untyped_storage()
                    if storage._cdata not in seen:
                        seen.add(storage._cdata)
                        found[kind] += storage.nbytes()
        return found

    def note(self) -> None:
        """Keep the sums if they are the largest so far."""
        sums = self.sums()
        if sum(sums.values()) > sum(self.largest.values()):
            self.largest = sums

    def after_step(self) -> None:
        self.note()
        self.steps += 1
        if self.steps >= STEPS * len(self.optimizers):
            raise Enough

    def keep(self, tensor):
        """Autograd saves a tensor: it is counted as long as it lives."""
        place = id(tensor)
        self.saved[place] = weakref.ref(tensor, lambda _: self.saved.pop(place, None))
        return tensor


def main(script: Path, options: list[str]) -> dict:
    """Run the script with its options, and say what was counted, in bytes."""
    count = Count()
    for name, value in {"is_available": True, "device_count": 1, "current_device": 0}.items():
        setattr(torch.cuda, name, lambda *_, value=value: value)
    for name in ("synchronize", "set_device", "empty_cache", "manual_seed", "manual_seed_all"):
        setattr(torch.cuda, name, lambda *_, **__: None)
    torch.nn.Module.cuda = lambda module, *_: module
    torch.nn.Module.to = _moved(torch.nn.Module.to)
    torch.accelerator.is_available = lambda: True
    torch.accelerator.current_accelerator = lambda *_, **__: torch.device("cuda")
    os.chdir(script.parent)
    sys.argv, sys.path[0] = [str(script), *options], str(script.parent)
    count.install()
    output, sys.stdout = sys.stdout, sys.stderr
    hooks = torch.autograd.graph.saved_tensors_hooks(count.keep, lambda tensor: tensor)
    try:
        with OnHost(), count.storages, hooks:
            runpy.run_path(str(script), run_name="__main__")
    except Enough:
        pass
    sys.stdout = output
    return count.largest | {"counted": sum(count.largest.values()), "alive": count.storages.peak}


def _moved(to):
    return lambda module, *args, **options: to(
        module, *map(host, args), **{name: host(value) for name, value in options.items()}
    )


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]).absolute(), sys.argv[2:])))
