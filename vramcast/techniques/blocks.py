"""The repeated blocks of a model: layers of a transformer, stages of a ResNet or a U-Net."""

import torch

CONTAINERS = (torch.nn.Sequential, torch.nn.ModuleList, torch.nn.ModuleDict)


def repeated(model: torch.nn.Module) -> list[torch.nn.Module]:
    """The outermost modules of one class that stand beside each other, in the model's order.

    A block consists of other modules and has parameters. Blocks that are containers count only if
    none inside them repeats. Blocks within blocks do not count, so that none overlaps another.
    """
    children = list(model.children())
    composite = [child for child in children if _composite(child)]
    classes = [type(child) for child in composite]
    found = []
    for child in composite:
        inner = repeated(child) if isinstance(child, CONTAINERS) else []
        if inner or classes.count(type(child)) < 2 or type(child) is torch.nn.ModuleList:
            found += inner or repeated(child)
        else:
            found.append(child)
    return found


def _composite(module: torch.nn.Module) -> bool:
    """Whether a module has parameters and consists of others."""
    return any(True for _ in module.children()) and any(True for _ in module.parameters())


def behind(model: torch.nn.Module, blocks: list[torch.nn.Module]) -> list[torch.nn.Parameter]:
    """The parameters that a model has after its last block: its head, and a norm before that."""
    inside = {id(parameter) for parameter in blocks[-1].parameters()}
    found: list[torch.nn.Parameter] = []
    for parameter in model.parameters():
        found = [] if id(parameter) in inside else [*found, parameter]
    return found
