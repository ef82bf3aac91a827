"""torchvision's pretrained weights without numbers, and what detection models choose by numbers."""

from types import ModuleType

import torch

from vramcast import compat
from vramcast.libraries.context import Context
from vramcast.operators import unknown_sizes
from vramcast.when_imported import when_imported


def install(context: Context) -> None:
    """Let pretrained weights have the shapes of the model that loads them, without a download."""
    when_imported("torchvision.models._api", replace_weights)
    when_imported("torchvision.models.detection.roi_heads", _replace_choice)
    when_imported("torchvision.ops.boxes", _keep_all)
    when_imported("torchvision.extension", lambda module: unknown_sizes.add_torchvision())


def replace_weights(module: ModuleType) -> None:
    """Let pretrained weights be the model's own; `module` is torchvision.models._api."""
    module.WeightsEnum.get_state_dict = lambda weights, *args, **kwargs: weights
    load = torch.nn.Module.load_state_dict

    def load_state_dict(model, state_dict, *args, **kwargs):
        if not isinstance(state_dict, module.WeightsEnum):
            return load(model, state_dict, *args, **kwargs)
        file = [  # of float32
            torch.empty(value.shape, dtype=torch.float32, device="cpu")
            for value in model.state_dict().values()
        ]
        del file  # on the host meanwhile
        return compat.IncompatibleKeys([], [])

    torch.nn.Module.load_state_dict = load_state_dict


def _replace_choice(module: ModuleType) -> None:
    module.RoIHeads.subsample = _subsample


def _subsample(heads, labels: list[torch.Tensor]) -> list[torch.Tensor]:
    """As many of each image's boxes as a detection model trains on; which ones, is not known."""
    count = heads.fg_bg_sampler.batch_size_per_image
    return [torch.arange(min(len(one), count), device=one.device) for one in labels]


def _keep_all(module: ModuleType) -> None:
    """The boxes that are kept of those of all classes: as many as possible."""
    module.batched_nms = lambda boxes, scores, classes, threshold: torch.arange(
        len(boxes), device=boxes.device
    )
