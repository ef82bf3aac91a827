"""LBFGS, whose history grows as its numbers tell: the most that it may keep is assumed.

torch/optim/lbfgs.py keeps a pair of vectors for each iteration in which the curvature is positive
(`ys > 1e-10`), up to `history_size`. A step has up to `max_iter` iterations, and ends earlier if
the loss or the gradient do not change. Here all iterations take place, and all pairs are kept.
"""

from collections.abc import Callable

import torch

from vramcast.compat import FakeTensor
from vramcast.memory.tracker import Tracker
from vramcast.where import here

NOTE = (
    "LBFGS is taken to need all iterations of a step (max_iter), and to keep as many pairs of "
    "vectors as it may (history_size)"
)


def install(tracker: Tracker, notes: list[str]) -> None:
    """Let `torch.optim.LBFGS` take steps of that kind."""
    take = torch.optim.LBFGS.step

    def step(optimizer, closure):
        notes.append(f"{here()}{NOTE}")
        # a search along the line may accept its first point, or look for long and keep more
        # meanwhile, as does a step that is not added to a full history: each second step does so
        optimizer.searches = not getattr(optimizer, "searches", True)
        state = optimizer.state[optimizer._params[0]] if optimizer._params else {}
        history = state.get("old_dirs", [])
        full = len(history) >= optimizer.param_groups[0]["history_size"]
        numbers = _Numbers(tracker, closure, optimizer.searches, optimizer.searches and full)
        with numbers:
            take(optimizer, numbers.evaluate)
        return numbers.first

    torch.optim.LBFGS.step = step


class _Numbers:
    """What LBFGS reads while it takes a step, within this context."""

    def __init__(self, tracker: Tracker, closure: Callable, searches: bool, flat: bool) -> None:
        """`searches`: no point satisfies Wolfe's condition. `flat`: no curvature is positive."""
        self.tracker, self.closure = tracker, closure
        self.searches, self.flat = searches, flat
        self.count = 0  # evaluations
        self.first: object = None  # what the closure returned first, and `step` returns

    def __enter__(self) -> None:
        def greater(tensor, other):
            """True of the curvature, which it compares with a positive number; else unknown."""
            result = torch.gt(tensor, other)
            result.known_true = isinstance(other, float) and other > 0 and not self.flat
            return result

        def less(tensor, other):
            """True of Wolfe's condition, the only one on two tensors, where it is to hold."""
            result = torch.le(tensor, other)
            result.known_true = isinstance(other, torch.Tensor) and not self.searches
            return result

        FakeTensor.__gt__, FakeTensor.__le__ = greater, less

    def __exit__(self, *exception) -> None:
        del FakeTensor.__gt__, FakeTensor.__le__

    def evaluate(self) -> float:
        """Run the closure, as the script's own code. Each loss is far from the one before."""
        outer, self.tracker.phase = self.tracker.phase, "forward"
        self.__exit__()
        try:
            loss = self.closure()
        finally:
            self.__enter__()
            self.tracker.phase = outer
        if self.count == 0:
            self.first = loss
        self.count += 1
        float(loss.detach() if isinstance(loss, torch.Tensor) else loss)  # for which it waits
        return float(self.count * (-1) ** self.count)
