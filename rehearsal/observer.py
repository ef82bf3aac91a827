"""Watch a script's training from outside: losses, speed, accuracy, and the precision it ran in."""

import contextlib
import functools
import inspect
import time
from collections import Counter

import torch
import torch.nn.functional as F
from lightning import Fabric
from torch.distributed.fsdp.sharded_grad_scaler import ShardedGradScaler
from torch.distributed.tensor import DTensor
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torchmetrics import Metric


class Observer:
    """Collects figures of a training from its calls to PyTorch and torchmetrics."""

    def __init__(self) -> None:
        self._losses = []  # (mean loss, images) since the last optimizer step
        self._step_losses = []
        self.accuracy = None  # of the metric computed last, 0..1
        self.targets = Counter()  # how often each class was the right answer there
        self.steps = 0  # of optimizers
        self.differentiated = False  # whether a gradient was computed
        self.parameters = self.autocast = None  # dtypes
        self.scaler = False
        self._optimizers = {}  # that took a step, by identity: one, or one a parameter
        self._whole = None  # the model's parameters, before anything was sharded
        self._in_loss = False
        self._images = 0
        self._first_time = self._last_time = None

    def install(self) -> None:
        """Start to watch."""
        F.cross_entropy = self._watch_loss(F.cross_entropy)
        Metric._wrap_update = _watch_targets(Metric._wrap_update)
        Metric._wrap_compute = self._watch_metric(Metric._wrap_compute)
        for scaler in (torch.amp.GradScaler, ShardedGradScaler):
            scaler.scale = self._watch_scaler(scaler.scale)
        Fabric.setup = self._watch_setup(Fabric.setup)
        Fabric.setup_module = self._watch_setup(Fabric.setup_module)
        for name in ("backward", "grad"):
            setattr(torch.autograd, name, self._watch_gradient(getattr(torch.autograd, name)))
        register_optimizer_step_pre_hook(self._watch_optimizer)
        register_optimizer_step_post_hook(self._count_step)
        self._module_hook = register_module_forward_pre_hook(self._watch_module)

    def losses(self) -> tuple[float | None, float | None]:
        """The mean training loss per image of the first and of the last optimizer step.

        The micro-batches of a step count together, and so do an optimizer's calls of a closure. A
        loss that no step follows (as after a NaN) counts as the last one. Without any optimizer,
        each loss counts as a step.
        """
        if not self.steps:
            self._step_losses, self._losses = [loss for loss, _ in self._losses], []
        self._end_step()
        steps = self._step_losses
        return (steps[0], steps[-1]) if steps else (None, None)

    def _count_step(self, *args) -> None:
        self.steps += 1
        self._end_step()

    def _end_step(self) -> None:
        if self._losses:
            images = sum(count for _, count in self._losses)
            self._step_losses.append(sum(loss * count for loss, count in self._losses) / images)
            self._losses = []

    def precision(self) -> str | None:
        """The precision that the training ran in: "float32", "float16 mixed, GradScaler" …"""
        if self.autocast is None:
            return _name(self.parameters) if self.parameters else None
        return f"{_name(self.autocast)} mixed" + (", GradScaler" if self.scaler else "")

    def held(self) -> tuple[float | None, float | None]:
        """This rank's share (0..1) of the model's parameters, and of the optimizer's state."""
        optimizers = self._optimizers.values()
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        # each once: ZeRO's optimizer has a second one inside, for its share
        parameters = list({id(one): one for group in groups for one in group["params"]}.values())
        numbers = sum(map(_held, parameters))
        whole = self._whole or numbers
        if not whole:
            return None, None
        kept = [
            (kind, _held(value))
            for optimizer in optimizers
            for parameter, state in optimizer.state.items()
            if isinstance(parameter, torch.Tensor) and isinstance(state, dict)
            for kind, value in state.items()
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape
        ]
        kinds = {kind for kind, _ in kept}  # for Adam, two moments
        of_optimizer = sum(count for _, count in kept) / (len(kinds) * whole) if kept else None
        return numbers / whole, of_optimizer

    def images_per_second(self) -> float | None:
        """Training speed between the first and the last training loss; None with fewer than two."""
        if not self._images:
            return None
        return self._images / (self._last_time - self._first_time)

    def _watch_loss(self, cross_entropy):
        signature = inspect.signature(cross_entropy)

        @functools.wraps(cross_entropy)
        def wrapped(*args, **kwargs):
            # with a torch function mode, PyTorch calls cross_entropy from within itself
            outermost, self._in_loss = not self._in_loss, True
            try:
                loss = cross_entropy(*args, **kwargs)
            finally:
                self._in_loss = not outermost
            if outermost and torch.is_grad_enabled() and loss.numel() == 1:
                with contextlib.suppress(RuntimeError):  # of a vmap, say, no value can be told
                    self._note_loss(loss.item(), signature.bind(*args, **kwargs))
            return loss

        return wrapped

    def _note_loss(self, value: float, call: inspect.BoundArguments) -> None:
        call.apply_defaults()
        asked, logits = call.arguments, call.arguments["input"]
        count = len(logits) if logits.dim() > 1 else 1
        if not count:  # an empty batch
            return
        if asked["reduction"] == "sum" or (
            asked["size_average"] is False and asked["reduce"] in (None, True)
        ):
            value /= count
        self._losses.append((value, count))
        self._last_time = time.perf_counter()
        if self._first_time is None:
            self._first_time = self._last_time
        else:
            self._images += count

    def _watch_gradient(self, function):
        @functools.wraps(function)
        def wrapped(*args, **kwargs):
            self.differentiated = True
            return function(*args, **kwargs)

        return wrapped

    def _watch_metric(self, wrap_compute):
        @functools.wraps(wrap_compute)
        def wrapped(metric, compute):
            wrapped_compute = wrap_compute(metric, compute)

            @functools.wraps(wrapped_compute)
            def remember(*args, **kwargs):
                value = wrapped_compute(*args, **kwargs)
                number = isinstance(value, torch.Tensor) and value.numel() == 1
                if _is_accuracy(metric) and number:
                    self.accuracy = value.item()
                    seen = metric.seen_targets  # what came before a reset does not count
                    self.targets = sum(seen[len(seen) - metric.update_count :], Counter())
                return value

            return remember

        return wrapped

    def _watch_scaler(self, scale):
        @functools.wraps(scale)
        def wrapped(scaler, outputs):
            self.scaler |= scaler.is_enabled()
            return scale(scaler, outputs)

        return wrapped

    def _watch_setup(self, setup):
        @functools.wraps(setup)
        def wrapped(fabric, module, *args, **kwargs):
            self._whole = sum(parameter.numel() for parameter in module.parameters())
            return setup(fabric, module, *args, **kwargs)

        return wrapped

    def _watch_optimizer(self, optimizer, args, kwargs) -> None:
        if id(optimizer) not in self._optimizers:
            self._optimizers[id(optimizer)] = optimizer
            parameters = [one for group in optimizer.param_groups for one in group["params"]]
            self.parameters = parameters[0].dtype if parameters else self.parameters

    def _watch_module(self, module, args) -> None:
        if torch.is_grad_enabled() and torch.is_autocast_enabled("cpu"):
            self.autocast = torch.get_autocast_dtype("cpu")
            self._module_hook.remove()


def _is_accuracy(metric: Metric) -> bool:
    return "Accuracy" in type(metric).__name__


def _watch_targets(wrap_update):
    """Have an accuracy metric remember the classes of each update, in `seen_targets`."""

    @functools.wraps(wrap_update)
    def wrapped(metric, update):
        wrapped_update = wrap_update(metric, update)
        if not _is_accuracy(metric):
            return wrapped_update
        metric.seen_targets = []

        @functools.wraps(wrapped_update)
        def remember(*args, **kwargs):
            target = kwargs.get("target", args[1] if len(args) > 1 else None)
            told = isinstance(target, torch.Tensor)  # a metric of the script's own may have another
            metric.seen_targets.append(
                Counter(map(str, target.flatten().tolist())) if told else Counter()
            )
            return wrapped_update(*args, **kwargs)

        return remember

    return wrapped


def _held(tensor: torch.Tensor) -> int:
    """How many of a tensor's numbers this rank keeps."""
    return (tensor.to_local() if isinstance(tensor, DTensor) else tensor).numel()


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
