"""Gaussian blur as Pillow makes it: three extended box blurs each way (Gwosdek et al., SSVM 2011).

Pixels beyond the border repeat the outermost in each of the three, as in Pillow, whichever way the sums are made: by
two matrix products for small views, by the few weights that are not zero for larger ones.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from smalldata_vit.data.choices import Choices, Numbers, Probability, between, happens, interval, on_rows

PASSES = 3

MATRIX_SIDE = 64
"""Views up to this side are blurred by matrix products; above, sums of the few pixels within reach are cheaper."""


class GaussianBlur:
    """Pillow's `GaussianBlur(radius)` with a uniform radius, without its rounding to 8 bits between passes.

    Arguments:
        probability: for each view.
        radius: range of the standard deviation in pixels of the view; DINO: 0.1 to 2.
    """

    numbers = 2

    def __init__(self, probability: Probability, radius: Sequence[float]) -> None:
        self.probability, self.radius = probability, interval("radius", radius, 0, 1e3)
        self.reach = PASSES * math.ceil(float(box_radius(torch.tensor([self.radius[1]]))))  # pixels each way

    def draw(self, uniform: Numbers) -> Choices:
        """`on` and `radius` (B, V)."""
        radius = between(uniform[..., 1], *self.radius).astype(np.float32)
        return {"on": happens(uniform[..., 0], self.probability), "radius": torch.from_numpy(radius)}

    def __call__(self, images: Float[Tensor, "n 3 H W"], choices: Choices) -> Float[Tensor, "n 3 H W"]:
        """Some of the views blurred."""
        return on_rows(images, choices["on"], self._blurred, choices["radius"])

    def masked(self, images: Float[Tensor, "n 3 H W"], choices: Choices) -> Float[Tensor, "n 3 H W"]:
        """Some of the views blurred, computed for all with shapes that do not depend on the choices."""
        if images.device.type == "cpu" and self._by_taps(images):
            return blurred_rows(images, choices["on"], choices["radius"], self.reach)
        return torch.where(choices["on"][:, None, None, None], self._blurred(images, choices["radius"]), images)

    def _by_taps(self, images: Float[Tensor, "n 3 S S"]) -> bool:
        return images.shape[-1] > max(MATRIX_SIDE, 4 * self.reach)

    def _blurred(self, images: Float[Tensor, "n 3 S S"], radius: Float[Tensor, " n"]) -> Float[Tensor, "n 3 S S"]:
        return blurred_within(images, radius, self.reach) if self._by_taps(images) else blurred(images, radius)


@torch.library.custom_op("smalldata_vit::blurred_rows", mutates_args=())
def blurred_rows(images: Tensor, on: Tensor, radius: Tensor, reach: int) -> Tensor:
    """Large views (n, 3, S, S) blurred where `on`: one operation to a graph, which on a CPU need not blur them all."""
    made = images.clone(memory_format=torch.contiguous_format)
    rows = on.nonzero()[:, 0]
    return (
        made.index_copy_(0, rows, blurred_within(images.index_select(0, rows), radius[rows], reach))
        if len(rows)
        else made
    )


@blurred_rows.register_fake
def _(images: Tensor, on: Tensor, radius: Tensor, reach: int) -> Tensor:
    return torch.empty_like(images, memory_format=torch.contiguous_format)


def blurred(images: Float[Tensor, "n 3 S S"], radius: Float[Tensor, " n"]) -> Float[Tensor, "n 3 S S"]:
    """Square views blurred along both axes; pixels beyond the border repeat the outermost."""
    count, _, size, _ = images.shape
    matrix = blur_matrix(radius, size)
    across = images.reshape(count, 3 * size, size) @ matrix.transpose(1, 2)
    lines = across.reshape(count, 3, size, size).transpose(1, 2).reshape(count, size, 3 * size)
    return (matrix @ lines).reshape(count, size, 3, size).transpose(1, 2).contiguous()


def blurred_within(
    images: Float[Tensor, "n 3 S S"], radius: Float[Tensor, " n"], reach: int
) -> Float[Tensor, "n 3 S S"]:
    """The same from no more than `reach` pixels each way, at least three box radii and less than a quarter of S.

    The inner pixels share one row of weights, a convolution; those nearer to a border have rows of their own.
    """
    if len(images) == 1:  # the convolution of three planes is another one than that of more, and rounds differently
        return blurred_within(images.repeat(2, 1, 1, 1), radius.repeat(2), reach)[:1]
    count, size = len(images), images.shape[-1]
    matrix = blur_matrix(radius, 4 * reach + 1)
    weights = matrix[:, 2 * reach, reach : 3 * reach + 1].repeat_interleave(3, 0)
    first, last = matrix[:, :reach, : 2 * reach], matrix[:, -reach:, -2 * reach :]
    planes = images.reshape(1, 3 * count, size, size)
    inner = F.conv2d(planes, weights[:, None, None], groups=3 * count).reshape(count, 3, size, -1)
    left = images[..., : 2 * reach] @ first.transpose(1, 2)[:, None]
    right = images[..., -2 * reach :] @ last.transpose(1, 2)[:, None]
    lines = torch.cat([left, inner, right], 3)
    planes = lines.reshape(1, 3 * count, size, size)
    inner = F.conv2d(planes, weights[:, None, :, None], groups=3 * count).reshape(count, 3, -1, size)
    top, bottom = first[:, None] @ lines[:, :, : 2 * reach], last[:, None] @ lines[:, :, -2 * reach :]
    return torch.cat([top, inner, bottom], 2)


def blur_matrix(radius: Float[Tensor, " n"], size: int) -> Float[Tensor, "n size size"]:
    """The blur of a line of `size` pixels as a matrix: a box blur, three times."""
    box = box_radius(radius)[:, None]
    place = torch.arange(size, dtype=torch.float32, device=radius.device)
    matrix = (box[:, :, None] + 1 - (place[:, None] - place).abs()).clamp_(0, 1)
    matrix[:, :, 0] += (box - place).clamp_(min=0)  # all weight beyond the border, in closed form
    matrix[:, :, -1] += (box - (size - 1 - place)).clamp_(min=0)
    matrix.div_(2 * box[:, :, None] + 1)
    return matrix @ (matrix @ matrix)


def box_radius(radius: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Half the width of the box, with its fractional edge, whose three passes have the variance radius²."""
    variance = radius.double().square() / PASSES
    whole = ((12 * variance + 1).sqrt() / 2 - 0.5).floor()
    edge = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance) / (6 * (variance - (whole + 1).square()))
    return (whole + edge).float()
