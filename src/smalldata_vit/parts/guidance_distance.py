"""How far a student's maps are from its guide's. Li et al., ECCV 2022, arXiv:2207.10026, and two other measures.

Attention: Zagoruyko and Komodakis, ICLR 2017, arXiv:1612.03928. Similarity: Tung and Mori, ICCV 2019, arXiv:1907.09682.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Reduction = Literal["mean", "per_pixel_sum"]
"""`mean` over images, channels and places, as the published code has it, to which β = 2.5 belongs; `per_pixel_sum`
sums over the channels, as the published formula does, and is larger by exactly their number."""

Transform = Literal["linear", "attention", "similarity"]
"""What is compared: `linear` the maps, the student's through a trained 1 x 1 convolution; `attention` where in an image
the features are large; `similarity` which images of a pass resemble each other."""


def on_one_grid(
    student: Float[Tensor, "B S h w"], guide: Float[Tensor, "B G H W"]
) -> tuple[Float[Tensor, "B S _ _"], Float[Tensor, "B G _ _"]]:
    """Both in float32 on the larger grid, bilinear, corners not aligned."""
    size = (max(student.shape[2], guide.shape[2]), max(student.shape[3], guide.shape[3]))
    return _resized(student.float(), size), _resized(guide.float(), size)


def _resized(maps: Float[Tensor, "B C h w"], size: tuple[int, int]) -> Float[Tensor, "B C H W"]:
    if maps.shape[2:] == size:
        return maps
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)


def standardized(maps: Float[Tensor, "B C H W"], eps: float = 1e-5) -> Float[Tensor, "B C H W"]:
    """Each channel less its mean, over its standard deviation, both over the images and places of this pass."""
    variance, mean = torch.var_mean(maps.float(), dim=(0, 2, 3), correction=0, keepdim=True)
    return (maps.float() - mean) * (variance + eps).rsqrt()


def mean_square(
    student: Float[Tensor, "B C H W"], guide: Float[Tensor, "B C H W"], reduction: Reduction
) -> Float[Tensor, ""]:
    """The squared difference of two maps on one grid."""
    mean = (guide - student).square().mean()
    return mean * guide.shape[1] if reduction == "per_pixel_sum" else mean


def attention(maps: Float[Tensor, "B C H W"]) -> Float[Tensor, "B 1 H W"]:
    """The channels' mean square at each place; of length 1 for each image."""
    energy = maps.square().mean(1, keepdim=True)
    return F.normalize(energy.flatten(1), dim=1).view_as(energy)


def similarity(maps: Float[Tensor, "B C H W"]) -> Float[Tensor, "B B"]:
    """Inner products of the images of a pass, each row of length 1."""
    flat = maps.float().flatten(1)
    return F.normalize(flat @ flat.T, dim=1)


def distance(
    student: Float[Tensor, "B S h w"], guide: Float[Tensor, "B G H W"], transform: Transform, reduction: Reduction
) -> Float[Tensor, ""]:
    """One pair's part of the guidance loss, in float32 whatever the precision of the networks.

    With `linear` the student's maps already have the guide's channels; the others compare any with any, and
    `similarity`, which has no channels, knows no `per_pixel_sum`.
    """
    with torch.autocast(guide.device.type, enabled=False):
        if transform == "similarity":
            return (similarity(guide) - similarity(student)).square().mean()
        student, guide = on_one_grid(student, guide)
        if transform == "attention":
            student, guide = attention(student), attention(guide)
        return mean_square(student, guide, reduction)
