"""torchmetrics on tensors without numbers, on one rank of many."""

import sys
from types import ModuleType

from vramcast.libraries.context import Context
from vramcast.when_imported import when_imported


def install(context: Context) -> None:
    """Leave out the checks of values; let the other ranks have the same results."""

    def metric(module: ModuleType) -> None:
        module.gather_all_tensors = lambda result, group=None: [result] * context.options.gpus

    when_imported("torchmetrics.metric", metric)
    when_imported("torchmetrics", _unchecked)


def _unchecked(module: ModuleType) -> None:
    """Leave out the checks of values, in classes and functions.

    The check of each metric is a function `_..._tensor_validation`, which modules import by name.
    To switch off `validate_args` would not suffice: each metric sets it, and copies keep it.
    """
    for name, one in list(sys.modules.items()):
        if name.startswith("torchmetrics."):
            for check in [key for key in vars(one) if key.endswith("_tensor_validation")]:
                setattr(one, check, _anything)


def _anything(*args, **kwargs) -> None:
    pass
