"""Digit glyphs rendered from the fonts that matplotlib bundles, distorted to look handwritten.

The stand-in model is pretrained on these glyphs (see `vision.py`) and later finetuned on the UCI
digits. So it has not seen a picture of the latter before.
"""

from pathlib import Path

import matplotlib
import torch
import torch.nn.functional as F
from matplotlib.ft2font import FT2Font
from torch import Tensor

# cmex10 and cmsy10 hold other symbols where the digits would be
FAMILIES = ("DejaVu", "STIXGeneral", "STIXNonUni", "cmb", "cmmi", "cmr", "cmss", "cmti", "cmtt")
# 0-9, and the mathematical bold, double-struck, sans-serif, bold sans-serif and monospace 0-9
ZEROS = (0x30, 0x1D7CE, 0x1D7D8, 0x1D7E2, 0x1D7EC, 0x1D7F6)
SIDE = 64  # pixels of a rendered glyph, before it is distorted


def load_glyphs() -> tuple[Tensor, Tensor]:
    """Every digit in every bundled font, as images: glyphs [N, 1, 64, 64] in 0..1, labels [N]."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    glyphs, labels = [], []
    for path in sorted(p for p in folder.glob("*.ttf") if p.name.startswith(FAMILIES)):
        font = FT2Font(str(path))
        font.set_size(48, 72)
        for zero in ZEROS:
            if not all(font.get_char_index(zero + digit) for digit in range(10)):
                continue
            for digit in range(10):
                font.set_text(chr(zero + digit), 0.0)
                font.draw_glyphs_to_bitmap()
                pixels = torch.tensor(font.get_image().copy(), dtype=torch.float32) / 255
                left, top = (SIDE - pixels.shape[1]) // 2, (SIDE - pixels.shape[0]) // 2
                glyph = torch.zeros(SIDE, SIDE)
                glyph[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
                glyphs.append(glyph)
                labels.append(digit)
    return torch.stack(glyphs).unsqueeze(1), torch.tensor(labels)


def _warp(glyphs: Tensor, generator: torch.Generator) -> Tensor:
    """Rotate, shear, bend and thicken or thin each glyph at random; binary [B, 1, 64, 64]."""
    count = len(glyphs)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    angle, shear, squeeze = normal(3, count) * torch.tensor([[0.15], [0.25], [0.2]])
    cos, sin = angle.cos(), angle.sin()
    stretch = squeeze.exp()
    matrix = torch.stack(
        [
            torch.stack([stretch * cos, stretch * (shear * cos - sin), torch.zeros(count)], 1),
            torch.stack([sin, shear * sin + cos, torch.zeros(count)], 1),
        ],
        1,
    )
    grid = F.affine_grid(matrix, [count, 1, SIDE, SIDE], align_corners=False) * 1.1
    for cells, strength in ((3, 0.12), (6, 0.06)):  # long bends, then short ones
        bend = F.interpolate(
            normal(count, 2, cells, cells), SIDE, mode="bicubic", align_corners=True
        )
        grid = grid + strength * bend.permute(0, 2, 3, 1)
    warped = F.grid_sample(glyphs, grid, align_corners=False)
    blurred = F.avg_pool2d(F.avg_pool2d(warped, 5, 1, 2), 5, 1, 2)
    low, high = 0.12, 0.55
    threshold = low + (high - low) * torch.rand(count, 1, 1, 1, generator=generator)
    # a thin font vanishes at a high threshold, so the threshold is relative to the glyph's peak
    return (blurred > threshold * blurred.amax((2, 3), keepdim=True)).float()


def _fit(binary: Tensor, generator: torch.Generator) -> Tensor:
    """Scale each glyph's bounding box to full height and a random width; binary [B, 1, 32, 32]."""
    count = len(binary)
    place = torch.linspace(-1, 1, SIDE)

    def span(occupied):  # the centre and half-width of the occupied stretch, in grid units
        low = torch.where(occupied, place, 1.0).amin(1)
        high = torch.where(occupied, place, -1.0).amax(1)
        return (low + high) / 2, ((high - low) / 2).clamp(min=0.02)

    centre_x, half_x = span(binary[:, 0].amax(1) > 0)
    centre_y, half_y = span(binary[:, 0].amax(2) > 0)
    natural = half_x / half_y  # a 1 stays narrow, a 0 stays wide
    width = (natural * torch.exp(0.25 * torch.randn(count, generator=generator))).clamp(0.15, 0.75)
    shift = 0.08 * torch.randn(count, generator=generator)
    zero = torch.zeros(count)
    matrix = torch.stack(
        [
            torch.stack([half_x / width, zero, centre_x + shift], 1),
            torch.stack([zero, half_y, centre_y], 1),
        ],
        1,
    )
    grid = F.affine_grid(matrix, [count, 1, 32, 32], align_corners=False)
    return (F.grid_sample(binary, grid, align_corners=False) > 0.5).float()


def sample(
    glyphs: Tensor, labels: Tensor, count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw `count` distorted digits: counts [B, 8, 8] in 0..16 and labels [B].

    The last step makes images as the UCI digits were made (E. Alpaydin, C. Kaynak, "Optical
    Recognition of Handwritten Digits", 1998): of a 32x32 bitmap, each 4x4 block is counted.
    """
    chosen = torch.randint(len(glyphs), (count,), generator=generator)
    bitmap = _fit(_warp(glyphs[chosen], generator), generator)
    return (F.avg_pool2d(bitmap, 4) * 16)[:, 0].round(), labels[chosen]
