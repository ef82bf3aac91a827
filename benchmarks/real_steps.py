"""Count what public scripts keep in real steps: python -m benchmarks.real_steps FOLDER WORD …

Beside a prediction (public_scripts.py), of the scripts that one of the words names. Each runs as it
is, without a GPU, until its second optimizer step is over. Counted are parameters, the optimizers'
states, and in the second step the larger of the gradients and of what autograd has saved at most
(each storage once, without parameters). That is less than what the script allocates: results that
are not saved and what operators take while they run come on top. So the row's "counted_gb" may not
be more than "allocated_gb", and little less where activations or states are most of it.

Not comparable are scripts that do something else without a GPU: autocast, cuDNN's recurrent layers.
Dropout saves a mask of one byte a number, as on a GPU. A script that has no data here, or takes
longer than LIMIT seconds, has no count.
"""

import json
import os
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

from benchmarks import public_scripts
from vramcast.processes.supervisor import write_json

LIMIT = 300  # seconds
STEPS = 2
ANSWER = "counted: "  # begins the line with the bytes


class Saved:
    """What autograd has saved: each storage once, as long as something in the graph has it."""

    def __init__(self) -> None:
        self.uses: dict[int, list[int]] = {}  # by the storage's address: how many, bytes counted
        self.left_out: set[int] = set()  # addresses of parameters
        self.now = self.most = 0

    def pack(self, tensor):
        return _Use(self, tensor)

    def add(self, storage) -> None:
        key = storage.data_ptr()
        size = 0 if key in self.left_out else storage.nbytes()
        use = self.uses.setdefault(key, [0, size])
        use[0] += 1
        if use[0] == 1:
            self.now += size
            self.most = max(self.most, self.now)

    def drop(self, storage) -> None:
        use = self.uses[storage.data_ptr()]
        use[0] -= 1
        if not use[0]:
            self.now -= self.uses.pop(storage.data_ptr())[1]


class _Use:
    """One tensor in the place of which autograd keeps this."""

    def __init__(self, saved: Saved, tensor) -> None:
        self.saved, self.tensor = saved, tensor
        saved.add(tensor.untyped_storage())

    def __del__(self) -> None:
        self.saved.drop(self.tensor.untyped_storage())


class Enough(BaseException):
    """The steps are done."""


def run(script: str, arguments: list[str]) -> None:
    """Run a script until its last step, in this process; print the bytes that it keeps at most."""
    import torch
    from torch.optim import optimizer as optim

    saved, optimizers, gradients, steps = Saved(), {}, 0, 0

    def size(tensors) -> int:
        storages = {one.untyped_storage().data_ptr(): one.untyped_storage() for one in tensors}
        return sum(storage.nbytes() for storage in storages.values())

    def parameters():
        groups = (group for one in optimizers.values() for group in one.param_groups)
        return [parameter for group in groups for parameter in group["params"]]

    def before(one, *_) -> None:
        nonlocal gradients
        optimizers[id(one)] = one
        gradients = size(p.grad for p in parameters() if p.grad is not None)

    def after(one, *_) -> None:
        nonlocal steps
        steps += 1
        kept = parameters() + [
            value for other in optimizers.values() for state in other.state.values()
            for value in state.values() if isinstance(value, torch.Tensor) and value.dim()
        ]  # fmt: skip
        if steps == STEPS:
            print(f"{ANSWER}{size(kept) + max(gradients, saved.most)}", flush=True)
            raise Enough
        saved.left_out = {one.untyped_storage().data_ptr() for one in parameters()}
        saved.most = saved.now

    def dropout(input, p=0.5, training=True, inplace=False):
        return torch.native_dropout(input, p, True)[0] if training and p else input

    optim.register_optimizer_step_pre_hook(before)
    optim.register_optimizer_step_post_hook(after)
    torch.nn.functional.dropout = torch.dropout = dropout
    torch.set_num_threads(1)
    sys.argv, sys.path[0] = [script, *arguments], str(Path(script).parent)
    with torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda use: use.tensor):
        runpy.run_path(script, run_name="__main__")


def counted(script: dict, folder: Path) -> float | None:
    """The GB that a listed script keeps; None if it cannot be counted here."""
    project = folder / script["file"].relative_to(folder).parts[0]
    command = [sys.executable, "-m", "benchmarks.real_steps", "--one", str(script["file"])]
    packages = os.pathsep.join((str(public_scripts.ROOT), str(project)))
    try:
        done = subprocess.run(
            [*command, *shlex.split(script["own"])], cwd=script["from"], capture_output=True,
            text=True, timeout=LIMIT, env=os.environ | {"PYTHONPATH": packages},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return None
    lines = [line for line in done.stdout.splitlines() if line.startswith(ANSWER)]
    return int(lines[0].removeprefix(ANSWER)) / 1e9 if lines else None


def main(folder: Path, words: list[str]) -> None:
    """Add the count to the rows of the scripts that one of the words names."""
    rows = json.loads(public_scripts.RESULTS.read_text())
    scripts = {public_scripts.key(one["row"]): one for one in public_scripts.scripts(folder)}
    for row in rows:
        key = public_scripts.key(row)
        if "error" in row or key not in scripts or not any(word in " ".join(key) for word in words):
            continue
        found = counted(scripts[key], folder)
        if found is not None:
            row["counted_gb"] = found
        print(f"{row['repository']} {row['path']}: {found} of {row['allocated_gb']}", flush=True)
        write_json(rows, public_scripts.RESULTS)


if __name__ == "__main__":
    if sys.argv[1] == "--one":
        run(sys.argv[2], sys.argv[3:])
    else:
        main(Path(sys.argv[1]).absolute(), sys.argv[2:])
