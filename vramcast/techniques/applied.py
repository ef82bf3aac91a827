"""Catches a script's models, optimizers and backward passes, to apply techniques to them."""

import functools
import gc
import os
import weakref
from collections.abc import Iterable

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from vramcast import compat
from vramcast.techniques import logits, updates
from vramcast.techniques.catalog import MICRO_BATCHES, of_slot
from vramcast.techniques.sharded import Sharded
from vramcast.techniques.updates import REPLACED, SETTINGS
from vramcast.techniques.weights import TO_MODELS, NotApplied, under_autocast, within

LOSSES = (
    "cross_entropy", "nll_loss", "binary_cross_entropy_with_logits", "mse_loss", "l1_loss",
    "smooth_l1_loss", "huber_loss", "kl_div",
)  # fmt: skip
FEWER = of_slot("weights")  # after which an optimizer gets other parameters
CHECKPOINTED = of_slot("activations")
TWICE = (
    "recomputed, batch norm's running averages move twice in a step: halve its momentum, as in "
    "docs/your-model.md"
)


def environment(names: tuple[str, ...]) -> None:
    """Set the variables that a technique needs before PyTorch's settings are read."""
    if "expandable-segments" in names:
        known = next(filter(None, map(os.environ.get, reversed(compat.SETTINGS_FROM))), "")
        others = [one for one in known.split(",") if one and "expandable_segments" not in one]
        text = ",".join([*others, "expandable_segments:True"])
        os.environ |= dict.fromkeys(compat.SETTINGS_FROM, text)


class Applied:
    """Applies techniques to what a script makes, once it makes it."""

    def __init__(self, names: tuple[str, ...], notes: list[str], gpus: int = 1) -> None:
        """`notes`: sentences for the answer; `gpus`: over which fsdp2 shards models."""
        self.names, self.notes = names, notes
        self.sharded = Sharded(gpus) if "fsdp2" in names else None
        self.models: weakref.WeakSet[torch.nn.Module] = weakref.WeakSet()  # that are changed
        self.optimizers: list[torch.optim.Optimizer] = []
        self.own = 0  # optimizers of ours are being made
        self.waiting: list[tuple] = []  # optimizers that will take their steps in the backward pass
        self.backwards = 0  # since an optimizer's last step

    def install(self) -> None:
        """Catch models, optimizers and backward passes from now on."""
        for name in ("to", "cuda"):
            setattr(torch.nn.Module, name, self._moving(getattr(torch.nn.Module, name)))
        optimizer = torch.optim.Optimizer
        optimizer.__init__ = self._making(optimizer.__init__)
        if "bf16-autocast" in self.names:
            for name in LOSSES:
                loss = getattr(torch.nn.functional, name)
                setattr(torch.nn.functional, name, within(under_autocast, loss))
        if "free-gradients" in self.names:
            register_optimizer_step_post_hook(updates.free_gradients)
        if "in-backward" in self.names:
            torch.nn.modules.module.register_module_forward_pre_hook(self._arm)
            self._refuse_what_needs_all_gradients()

    def applied(self) -> bool:
        """Whether there was something to apply each technique to."""
        of_models = set(self.names) & {*TO_MODELS, "chunked-loss", "fsdp2"}
        return not self.names or (bool(self.optimizers) and (not of_models or bool(self.models)))

    def change(self, model: torch.nn.Module) -> None:
        """Apply what is to be done to models, once to each, parts of others aside.

        Raises NotApplied.
        """
        if model in self.models or not any(True for _ in model.parameters()):
            return
        if any(part in self.models for part in model.modules()):  # it is a wrapper of one
            self.models.update(model.modules())
            return
        self.models.update(model.modules())
        for name, change in TO_MODELS.items():
            if name in self.names:
                change(model)
        if "chunked-loss" in self.names:
            logits.in_chunks(model)
        if self.sharded:
            self.sharded(model)
        norms = any(isinstance(part, torch.nn.BatchNorm2d) for part in model.modules())
        if norms and CHECKPOINTED & set(self.names):
            self.notes.append(TWICE)

    def _moving(self, move):
        """`Module.to` and `cuda`: a model is changed before it is moved to the GPU."""

        @functools.wraps(move)
        def moved(model, *args, **kwargs):
            words = [*args, kwargs.get("device")]
            gpu = move.__name__ == "cuda" or any(
                str(word).startswith("cuda") for word in words if not torch.is_tensor(word)
            )
            if gpu:
                self.change(model)
            return move(model, *args, **kwargs)

        return moved

    def _making(self, init):
        """`Optimizer.__init__`: its model is changed before, and it is when its groups are set."""

        @functools.wraps(init)
        def made(optimizer, params, defaults):
            if self.own:
                return init(optimizer, params, defaults)
            groups = _groups(params)
            roots = _roots(groups)
            for model in roots:
                self.change(model)
            if FEWER & set(self.names):
                groups = _trained(groups, roots)
            if self.sharded:
                groups = self.sharded.of(groups)
            init(optimizer, groups, defaults)
            self._taken(optimizer)

        return made

    def _taken(self, optimizer: torch.optim.Optimizer) -> None:
        """Apply what is to be done to a new optimizer, whose groups are there."""
        self.optimizers.append(optimizer)
        make = updates.same
        for name in self.names:
            if name in SETTINGS:
                updates.settings(optimizer, name)
            make = REPLACED.get(name, make)

        def of_ours(*args):
            self.own += 1
            try:
                return make(*args)
            finally:
                self.own -= 1

        if "in-backward" in self.names:
            self.waiting.append((optimizer, of_ours))
        elif make is not updates.same:
            updates.replace(optimizer, of_ours)
        if "accumulate" in self.names:
            updates.accumulate(optimizer, MICRO_BATCHES)

    def _arm(self, module: torch.nn.Module, args: tuple) -> None:
        """Have steps taken in the backward pass, from the first call of a model on.

        By then the optimizers are whole, and all hooks on parameters are set.
        """
        if torch.is_grad_enabled() and module.training and module in self.models:
            while self.waiting:
                optimizer, make = self.waiting.pop()
                updates.in_backward(optimizer, make, self._stepped)

    def _stepped(self) -> None:
        self.backwards = 0

    def _counted(self, backward):
        """`torch.autograd.backward`; raises NotApplied at the second one for the same step."""

        @functools.wraps(backward)
        def counted(*args, **kwargs):
            self.backwards += 1
            if self.backwards > 1:
                raise NotApplied("several backward passes for one step add up gradients")
            return backward(*args, **kwargs)

        return counted

    def _refuse_what_needs_all_gradients(self) -> None:
        """Raise NotApplied where a script clips, scales or accumulates gradients."""

        def refuse(what: str):
            def refused(*args, **kwargs):
                raise NotApplied(f"{what}, which needs all gradients at once")

            return refused

        for place in (torch.nn.utils, torch.nn.utils.clip_grad):
            place.clip_grad_norm_ = refuse("it clips gradients by their norm")
        torch.amp.GradScaler.step = refuse("it scales gradients")
        torch.autograd.backward = self._counted(torch.autograd.backward)


def _groups(params: Iterable) -> list[dict]:
    """What an optimizer is given, as a list of groups with a list of parameters each."""
    params = list(params)
    if not params or not isinstance(params[0], dict):
        return [{"params": params}]
    own = (group["params"] for group in params)
    lists = [[one] if torch.is_tensor(one) else list(one) for one in own]
    return [group | {"params": found} for group, found in zip(params, lists)]


def _tensor(parameter: torch.Tensor | tuple) -> torch.Tensor:
    """A parameter, which may come with its name."""
    return parameter[1] if isinstance(parameter, tuple) else parameter


def _roots(groups: list[dict]) -> list[torch.nn.Module]:
    """The models that own parameters of an optimizer's groups and are no parts of others."""
    wanted = {id(_tensor(one)) for group in groups for one in group["params"]}
    modules = [one for one in gc.get_objects() if issubclass(type(one), torch.nn.Module)]
    parts = {id(part) for one in modules for part in one.children()}
    tops = [one for one in modules if id(one) not in parts]
    return [one for one in tops if any(id(own) in wanted for own in one.parameters())]


def _trained(groups: list[dict], models: list[torch.nn.Module]) -> list[dict]:
    """Those parameters of an optimizer that are still trained, and the models' new ones."""
    known = {id(_tensor(one)) for group in groups for one in group["params"]}
    found = [
        group | {"params": [one for one in group["params"] if _tensor(one).requires_grad]}
        for group in groups
    ]
    new = [
        one
        for model in models
        for one in model.parameters()
        if one.requires_grad and id(one) not in known
    ]
    named = any(isinstance(one, tuple) for group in groups for one in group["params"])
    found[0]["params"] += [(f"adapter.{n}", one) for n, one in enumerate(new)] if named else new
    return [group for group in found if group["params"]]
