"""torchmetrics on tensors without numbers: its checks of their values are left out."""

import sys

import torchmetrics  # noqa: F401  all of whose checks are looked for below


def install() -> None:
    """Leave out the checks of values, in classes and functions. Cannot be undone.

    The check of each metric is a function `_..._tensor_validation`, which modules import by name.
    To switch off `validate_args` would not suffice: each metric sets it, and copies keep it.
    """
    for name, module in list(sys.modules.items()):
        if name.startswith("torchmetrics."):
            for check in [key for key in vars(module) if key.endswith("_tensor_validation")]:
                setattr(module, check, _anything)


def _anything(*args, **kwargs) -> None:
    pass
