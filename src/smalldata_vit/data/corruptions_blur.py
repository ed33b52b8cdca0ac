"""Common corruptions by blur: defocus, glass, motion and zoom. Hendrycks and Dietterich, ICLR 2019, arXiv:1903.12261.

Images are square, float32 in 0..1. Departures, not measured: motion blur follows the formulas of ImageMagick 6
(`MotionBlurImage`) without its intermediate quantum.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from smalldata_vit.data.corruptions_filters import both_axes, gaussian, zoom_matrix
from smalldata_vit.data.corruptions_noise import Generators

ROUNDING = 1e-4
"""Of 1/255: what a value may lack of a whole number through rounding before it is truncated to 8 bits."""


def truncated(images: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Values 0..1 cut to 8 bits, not rounded, as the published code does wherever it makes 8 bits of numbers."""
    return (images.clamp(0, 1) * 255 + ROUNDING).floor() / 255


def disk(radius: float, sigma: float) -> Float[Tensor, "n n"]:
    """A disk of equal weights that sum to 1, its edge softened by a Gaussian over 3 pixels (5 above a radius of 8)."""
    reach, soft = (8, 1) if radius <= 8 else (int(radius), 2)
    place = torch.arange(-reach, reach + 1, dtype=torch.float64)
    inside = (place[:, None] ** 2 + place**2 <= radius**2).double()
    edge = torch.exp(-(torch.arange(-soft, soft + 1, dtype=torch.float64) ** 2) / (2 * sigma**2))
    edge = edge / edge.sum()
    padded = F.pad((inside / inside.sum())[None, None], [soft] * 4, mode="reflect")
    kernel = F.conv2d(padded, (edge[:, None] * edge)[None, None])[0, 0]
    rows = kernel.sum(1).nonzero()[:, 0]  # around it is nothing but zeros, for which a small picture has no room
    return kernel[int(rows[0]) : int(rows[-1]) + 1, int(rows[0]) : int(rows[-1]) + 1].float()


def defocus_blur(
    images: Float[Tensor, "B 3 S S"], level: tuple[float, float], draws: Generators
) -> Float[Tensor, "B 3 S S"]:
    """Every pixel spread over a disk of radius level[0]; beyond the border the picture is mirrored."""
    kernel = disk(*level).to(images.device)
    padded = F.pad(images, [len(kernel) // 2] * 4, mode="reflect")
    return F.conv2d(padded.flatten(0, 1)[:, None], kernel[None, None])[:, 0].unflatten(0, (-1, 3)).clamp(0, 1)


def glass_blur(
    images: Float[Tensor, "B 3 S S"], level: tuple[float, int, int], draws: Generators
) -> Float[Tensor, "B 3 S S"]:
    """A Gaussian of σ level[0], pixels replaced by near ones, and the Gaussian again.

    From the lower right to the upper left each pixel takes the value of one at most level[1] away, level[2] times. The
    paper speaks of swapping; in the published code the second half of the swap copies a pixel onto itself.
    """
    sigma, reach, rounds = level
    blurred = truncated(gaussian(images, sigma, 4.0, "nearest"))
    side = images.shape[-1]
    inner = max(side - 2 * reach, 0)
    steps = np.stack([draw.integers(-reach, reach, (rounds, inner, inner, 2)) for draw in draws])
    source = np.tile(np.arange(side * side).reshape(1, side, side), (len(images), 1, 1))
    image = np.arange(len(images))
    for number in range(rounds):
        for i, row in enumerate(range(side - reach, reach, -1)):
            for j, column in enumerate(range(side - reach, reach, -1)):
                across, down = steps[:, number, i, j].T
                source[:, row, column] = source[image, row + down, column + across]
    place = torch.from_numpy(source).to(images.device).flatten(1)[:, None].expand(-1, 3, -1)
    moved = blurred.flatten(2).gather(2, place).unflatten(2, (side, side))
    return gaussian(moved, sigma, 4.0, "nearest").clamp(0, 1)


def motion_blur(
    images: Float[Tensor, "B 3 S S"], level: tuple[float, float], draws: Generators
) -> Float[Tensor, "B 3 S S"]:
    """A streak of 2 · level[0] + 1 pixels at an angle between -45° and 45°; 8 bits."""
    angle = np.array([draw.uniform(-45, 45) for draw in draws])
    return streaked(images, *level, angle)


def streaked(
    images: Float[Tensor, "B C S S"], radius: float, sigma: float, angle: Float[np.ndarray, " B"]
) -> Float[Tensor, "B C S S"]:
    """Each pixel a mean over those in the direction of `angle` (degrees), of weight exp(-i² / 2σ²) i pixels away.

    Pixels beyond the border repeat the outermost; the result is rounded to 8 bits.
    """
    length = 2 * math.ceil(radius) + 1
    weight = torch.exp(-(torch.arange(length, dtype=torch.float64) ** 2) / (2 * sigma**2))
    shares: list[float] = (weight / weight.sum()).tolist()
    side = images.shape[-1]
    image, place = torch.arange(len(images), device=images.device), torch.arange(side, device=images.device)
    made = torch.zeros_like(images)
    for i, share in enumerate(shares):
        down, across = (_offset(i * f(np.deg2rad(angle)), images.device) for f in (np.sin, np.cos))
        row, column = ((place + moved[:, None]).clamp(0, side - 1) for moved in (down, across))
        made += share * images[image[:, None, None], :, row[:, :, None], column[:, None, :]].permute(0, 3, 1, 2)
    return (made.clamp(0, 1) * 255 + 0.5).floor() / 255


def _offset(distance: Float[np.ndarray, " B"], device: torch.device) -> Int[Tensor, " B"]:
    """Whole pixels next to a distance, halves downwards."""
    return torch.from_numpy(np.ceil(distance - 0.5).astype(np.int64)).to(device)


def zoom_blur(
    images: Float[Tensor, "B 3 S S"], level: tuple[float, float], draws: Generators
) -> Float[Tensor, "B 3 S S"]:
    """The mean of the picture and of its enlargements by 1, 1 + step, … below level[0]; level[1] is the step."""
    factors = np.arange(1, *level).tolist()
    total = images.clone()
    for factor in factors:
        total += both_axes(images, zoom_matrix(images.shape[-1], factor))
    return (total / (len(factors) + 1)).clamp(0, 1)
