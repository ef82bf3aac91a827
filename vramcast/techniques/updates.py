"""What techniques do to an optimizer: another one takes its steps, or it takes them elsewhere."""

import importlib
import inspect
import types
from collections.abc import Callable

import torch

from vramcast.techniques.weights import NotApplied

Make = Callable[[torch.optim.Optimizer, dict, list], torch.optim.Optimizer]


def same(optimizer: torch.optim.Optimizer, group: dict, parameters: list) -> torch.optim.Optimizer:
    """An optimizer of the same class and options as a group's, for some of its parameters."""
    known = inspect.signature(type(optimizer).__init__).parameters
    options = {key: value for key, value in group.items() if key in known and key != "params"}
    return type(optimizer)(parameters, **options)


def _another(module: str, name: str, **options: object) -> Make:
    """An optimizer of another class; its module is imported when one is made."""

    def make(optimizer: torch.optim.Optimizer, group: dict, parameters: list):
        return getattr(importlib.import_module(module), name)(parameters, **options)

    return make


REPLACED = {
    "adamw-8bit": _another("torchao.optim", "AdamW8bit", lr=1e-4, bf16_stochastic_round=True),
    "adamw-4bit": _another("torchao.optim", "AdamW4bit", lr=1e-4, bf16_stochastic_round=True),
    "adafactor": _another("torch.optim", "Adafactor", lr=1e-2),
    "sgd": _another("torch.optim", "SGD", lr=1e-2),
}
SETTINGS = {"fused": {"fused": True, "foreach": None}, "foreach-off": {"foreach": False}}


def settings(optimizer: torch.optim.Optimizer, name: str) -> None:
    """Set how an optimizer takes its steps. Raises NotApplied if it has no such option."""
    for group in optimizer.param_groups:
        if next(iter(SETTINGS[name])) not in group:
            raise NotApplied(f"{type(optimizer).__name__} has no option for it")
        group |= {key: value for key, value in SETTINGS[name].items() if key in group}


def replace(optimizer: torch.optim.Optimizer, make: Make) -> None:
    """Let another optimizer take the steps of this one, from its first step on."""
    others: list[torch.optim.Optimizer] = []

    def step(optimizer, closure=None):
        loss = None if closure is None else closure()
        if not others:
            for group in optimizer.param_groups:
                others.append(make(optimizer, group, group["params"]))
        for other in others:
            other.step()
        return loss

    optimizer.step = types.MethodType(step, optimizer)


def accumulate(optimizer: torch.optim.Optimizer, times: int) -> None:
    """Let an optimizer take one of so many of its steps, and keep the gradients in between."""
    take, clear, calls = optimizer.step, optimizer.zero_grad, 0

    def step(optimizer, closure=None):
        nonlocal calls
        calls += 1
        loss = None if closure is None else closure()
        if calls % times == 0:
            take()
        return loss

    def zero_grad(optimizer, *args, **kwargs):
        if calls % times == 0:
            clear(*args, **kwargs)

    optimizer.step = types.MethodType(step, optimizer)
    optimizer.zero_grad = types.MethodType(zero_grad, optimizer)


def in_backward(optimizer: torch.optim.Optimizer, make: Make, stepped: Callable[[], None]) -> None:
    """Have each parameter's step taken as soon as its gradient is complete, which is then freed.

    `stepped` is called where the optimizer itself would have taken its step.
    """

    def update(parameter: torch.Tensor) -> None:
        own[parameter].step()
        own[parameter].zero_grad()

    own = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.requires_grad:
                own[parameter] = make(optimizer, group, [parameter])
                parameter.register_post_accumulate_grad_hook(update)

    def step(optimizer, closure=None):
        stepped()
        return None if closure is None else closure()

    optimizer.step = types.MethodType(step, optimizer)


def free_gradients(optimizer: torch.optim.Optimizer, *args) -> None:
    """Free the gradients of an optimizer; a hook for after its step."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None
