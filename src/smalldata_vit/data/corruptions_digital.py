"""Common corruptions of digital pictures: contrast, elastic transform, pixels, JPEG.

Hendrycks and Dietterich, ICLR 2019, arXiv:1903.12261. Images are square, float32 in 0..1 and of 8 bits. Departure, not
measured: the elastic transform's affine map is sampled at exact places, where OpenCV rounds them to 1/32 of a pixel.
"""

import io
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from smalldata_vit.data.corruptions_filters import gaussian, sampled
from smalldata_vit.data.corruptions_noise import Generators, drawn


def contrast(images: Float[Tensor, "B 3 S S"], level: float, draws: Generators) -> Float[Tensor, "B 3 S S"]:
    """Nearer to each channel's own mean."""
    mean = images.mean((2, 3), keepdim=True)
    return ((images - mean) * level + mean).clamp(0, 1)


def elastic_transform(
    images: Float[Tensor, "B 3 S S"], level: tuple[float, float, float], draws: Generators
) -> Float[Tensor, "B 3 S S"]:
    """An affine map that moves three points by up to level[2] each way, then a smooth field of displacements.

    The field is uniform noise under a Gaussian of σ level[1], times level[0].
    """
    strength, sigma, corner = level
    side, device = images.shape[-1], images.device
    middle, third = side // 2, side // 3
    before = np.array([[middle + third] * 2, [middle + third, middle - third], [middle - third] * 2], dtype=np.float64)
    after = before + np.stack([draw.uniform(-corner, corner, (3, 2)) for draw in draws])
    # The map from the new picture's (x, y) back to the old one's.
    back = np.linalg.solve(
        np.concatenate([after, np.ones((len(after), 3, 1))], 2), np.broadcast_to(before, after.shape)
    )
    place = torch.arange(side, dtype=torch.float32, device=device)
    y, x = torch.meshgrid(place, place, indexing="ij")
    of = torch.from_numpy(back).float().to(device)[:, :, :, None, None]
    moved = sampled(
        images,
        of[:, 0, 1] * x + of[:, 1, 1] * y + of[:, 2, 1],
        of[:, 0, 0] * x + of[:, 1, 0] * y + of[:, 2, 0],
        "mirror",
    )
    field = drawn(draws, lambda draw: draw.uniform(-1, 1, (2, side, side)), device)
    field = gaussian(field, sigma, 3.0, "reflect") * strength
    return sampled(moved, y + field[:, 1], x + field[:, 0], "reflect").clamp(0, 1)


def pixelate(images: Float[Tensor, "B 3 S S"], level: float, draws: Generators) -> Float[Tensor, "B 3 S S"]:
    """Shrunk to a share of its side and enlarged again, both by Pillow's box filter."""
    side = images.shape[-1]
    small = max(int(side * level), 1)
    box = Image.Resampling.BOX
    return by_pillow(images, lambda picture: picture.resize((small, small), box).resize((side, side), box))


def jpeg_compression(images: Float[Tensor, "B 3 S S"], level: float, draws: Generators) -> Float[Tensor, "B 3 S S"]:
    """Written by Pillow as JPEG of quality `level`, and read again."""

    def compressed(picture: Image.Image) -> Image.Image:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=int(level))
        return Image.open(file)

    return by_pillow(images, compressed)


def by_pillow(
    images: Float[Tensor, "B 3 S S"], change: Callable[[Image.Image], Image.Image]
) -> Float[Tensor, "B 3 S S"]:
    """Each picture changed by Pillow."""
    pixels = (images * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    made = np.stack([np.asarray(change(Image.fromarray(picture)), dtype=np.float32) for picture in pixels])
    return torch.from_numpy(made).permute(0, 3, 1, 2).to(images.device) / 255
