"""Gaussian blur as Pillow makes it: three extended box blurs each way (Gwosdek et al., SSVM 2011)."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from smalldata_vit.data.choices import Choices, Numbers, Probability, between, happens, interval, on_rows

PASSES = 3


class GaussianBlur:
    """Pillow's `GaussianBlur(radius)` with a uniform radius, without its rounding to 8 bits between passes.

    Arguments:
        probability: for each view.
        radius: range of the standard deviation in pixels of the view; DINO: 0.1 to 2.
    """

    numbers = 2

    def __init__(self, probability: Probability, radius: Sequence[float]) -> None:
        self.probability, self.radius = probability, interval("radius", radius, 0, 1e3)

    def draw(self, uniform: Numbers) -> Choices:
        """`on` and `radius` (B, V)."""
        radius = between(uniform[..., 1], *self.radius).astype(np.float32)
        return {"on": happens(uniform[..., 0], self.probability), "radius": torch.from_numpy(radius)}

    def __call__(self, images: Float[Tensor, "n 3 H W"], choices: Choices) -> Float[Tensor, "n 3 H W"]:
        """Some of the views blurred."""
        return on_rows(images, choices["on"], blurred, choices["radius"])


def blurred(images: Float[Tensor, "n 3 S S"], radius: Float[Tensor, " n"]) -> Float[Tensor, "n 3 S S"]:
    """Square views blurred along both axes; pixels beyond the border repeat the outermost."""
    count, _, size, _ = images.shape
    matrix = blur_matrix(radius, size)
    across = images.reshape(count, 3 * size, size) @ matrix.transpose(1, 2)
    lines = across.reshape(count, 3, size, size).transpose(1, 2).reshape(count, size, 3 * size)
    return (matrix @ lines).reshape(count, size, 3, size).transpose(1, 2).contiguous()


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
