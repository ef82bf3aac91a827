"""A small pretrained vision transformer in the place of torchvision's large ones."""

from pathlib import Path

import torchvision
from safetensors.torch import load_file
from torchvision.models import WeightsEnum
from torchvision.models.vision_transformer import VisionTransformer

CHECKPOINT = Path(__file__).with_name("vit_digits.safetensors")
WIDTH = 96
FEATURES = 4096  # what the head sees


def small_vit(num_classes: int = 10, **options) -> VisionTransformer:
    """The stand-in's architecture, not pretrained: 4 blocks of width 96, 224 px in 49 patches."""
    return VisionTransformer(
        image_size=224,
        patch_size=32,
        num_layers=4,
        num_heads=4,
        hidden_dim=WIDTH,
        mlp_dim=4 * WIDTH,
        num_classes=num_classes,
        representation_size=FEATURES,
        **options,
    )


def _stand_in_vit(weights: WeightsEnum | None = None, num_classes: int = 1000, **options):
    """Build the small model; with `weights`, load the pretrained checkpoint except for the head."""
    kept = {name: options[name] for name in ("dropout", "attention_dropout") if name in options}
    model = small_vit(num_classes, **kept)
    if weights is not None:
        model.load_state_dict(load_file(CHECKPOINT), strict=False)  # float16 on disk
    return model


def _no_stand_in(weights: WeightsEnum, *args, **kwargs):
    raise RuntimeError(
        f"there is no stand-in for the weights {weights}: only torchvision's vision transformers "
        "(vit_b_16 … vit_h_14) have one"
    )


def install() -> None:
    """Build the small model wherever a script asks torchvision for a ViT. Cannot be undone."""
    torchvision.models.vision_transformer._vision_transformer = _stand_in_vit
    WeightsEnum.get_state_dict = _no_stand_in
