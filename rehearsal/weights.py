"""A small pretrained vision transformer in the place of torchvision's large ones."""

import functools

import torch
import torch.nn.functional as F
import torchvision
from safetensors.torch import load_file
from torch import Tensor
from torch.distributed.fsdp.wrap import size_based_auto_wrap_policy
from torchvision.models import WeightsEnum
from torchvision.models.vision_transformer import VisionTransformer

from rehearsal import used
from rehearsal.pretraining import FOLDER

CHECKPOINT = FOLDER / "vit_digits.safetensors"
WIDTH = 96
VIT_H_WIDTH = 1280
FEATURES = 4096  # what the head sees
SIDE = 7  # patches a side: of 32 px in an image of 224, of 74 px in one of 518


def small_vit(num_classes: int = 10, image_size: int = 224, **options) -> VisionTransformer:
    """The stand-in's architecture, not pretrained: 4 blocks of width 96, 49 patches."""
    return VisionTransformer(
        image_size=image_size,
        patch_size=image_size // SIDE,
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
    image_size = weights.meta["min_size"][0] if weights else options.get("image_size", 224)
    if image_size % SIDE:
        raise RuntimeError(f"the stand-in has no patches for images of {image_size} px")
    model = small_vit(num_classes, image_size, **kept)
    if weights is not None:
        head = model.heads.head  # which the scripts replace
        parameters = sum(p.numel() for p in model.parameters())
        parameters += (10 - head.out_features) * (head.in_features + 1)
        used[f"{type(weights).__name__}.{weights.name}"] = (
            f"a vision transformer of {parameters / 1e6:.1f} million parameters with a head "
            "of ten classes, pretrained on digits in printed fonts"
        )
        state = load_file(CHECKPOINT)  # float16 on disk
        state["conv_proj.weight"] = _resize_patches(state["conv_proj.weight"], image_size // SIDE)
        model.load_state_dict(state, strict=False)
    return model


def _resize_patches(kernel: Tensor, size: int) -> Tensor:
    """The kernel [WIDTH, 3, P, P] enlarged or shrunk to patches of size x size pixels.

    Its sum stays the same, so that an image gives about the same numbers at each resolution, as
    long as the number of patches is the same.
    """
    old = kernel.shape[-1]
    if size == old:
        return kernel
    return F.interpolate(kernel.float(), size=size, mode="bilinear") * (old / size) ** 2


def _block_size(width: int) -> int:
    """How many parameters an EncoderBlock has: attention, two wide layers (4 x), two norms."""
    return 12 * width**2 + 13 * width


@functools.wraps(size_based_auto_wrap_policy)
def _scaled_size_policy(module, recurse, nonwrapped_numel, min_num_params=int(1e8), **options):
    """FSDP's wrapping policy by size, with the limit scaled from a ViT-H/14 block to ours."""
    scaled = min_num_params * _block_size(WIDTH) / _block_size(VIT_H_WIDTH)
    return size_based_auto_wrap_policy(module, recurse, nonwrapped_numel, scaled, **options)


def _no_stand_in(weights: WeightsEnum, *args, **kwargs):
    raise RuntimeError(
        f"there is no stand-in for the weights {weights}: only torchvision's vision transformers "
        "(vit_b_16 … vit_h_14) have one"
    )


def install() -> None:
    """Build the small model when a script asks torchvision for a ViT."""
    torchvision.models.vision_transformer._vision_transformer = _stand_in_vit
    torch.distributed.fsdp.wrap.size_based_auto_wrap_policy = _scaled_size_policy
    WeightsEnum.get_state_dict = _no_stand_in
