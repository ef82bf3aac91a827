"""The most bytes that tensors of a script take, counted on real tensors on the CPU.

    python -m tests.probes.real_memory SCRIPT …

Each script runs whole, with "cuda" taken for the CPU. Prints, as JSON, the bytes of each script.
This knows nothing of vramcast: each tensor that an operator returns counts until its storage is
gone.
"""

import json
import sys
import weakref
from pathlib import Path

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Count(TorchDispatchMode):
    """Counts the bytes of the storages that are alive, and their peak."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, object] = {}
        self.now = self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._see(leaf.untyped_storage())
        return result

    def _see(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self.alive:
            return

        def gone(_) -> None:
            del self.alive[key]
            self.now -= size

        self.alive[key] = weakref.ref(storage, gone)
        self.now += size
        self.peak = max(self.peak, self.now)


class OnCpu(TorchFunctionMode):
    """Takes "cuda" for the CPU."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if kwargs.get("device") == "cuda":
            kwargs["device"] = "cpu"
        return func(*args, **kwargs)


def main(scripts: list[str]) -> None:
    torch.Tensor.cuda = torch.nn.Module.cuda = lambda self, *args, **kwargs: self
    torch.set_num_threads(1)
    found = []
    for script in scripts:
        code = compile(Path(script).read_text(), script, "exec")
        with Count() as count, OnCpu():
            exec(code, {"__name__": "__main__"})
        found.append(count.peak)
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
