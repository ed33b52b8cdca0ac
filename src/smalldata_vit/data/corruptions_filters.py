"""Linear maps of picture lines that several corruptions share: Gaussian filters, zooms, and sampling between pixels.

They are the definitions of scipy.ndimage (`gaussian_filter`, `zoom` and `map_coordinates` of order 1), as matrices.
"""

import math
from functools import cache
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Border = Literal["nearest", "reflect", "mirror"]
"""What lies beyond the border: `nearest` a|abc|c, `reflect` ba|abc|cb, `mirror` cb|abc|ba."""


def bordered(place: Float[Tensor, "*shape"], size: int, border: Border) -> Float[Tensor, "*shape"]:
    """Places on a line of `size` pixels, whole or between pixels, brought to 0 .. size - 1."""
    if border == "nearest":
        return place.clamp(0, size - 1)
    if border == "reflect":
        period = 2 * size
        place = (place + 0.5).remainder(period)
        return torch.where(place > size, period - place, place).sub(0.5).clamp(0, size - 1)
    period = max(2 * (size - 1), 1)
    place = place.remainder(period)
    return torch.where(place > size - 1, period - place, place)


@cache
def gaussian_matrix(size: int, sigma: float, truncate: float, border: Border) -> Float[Tensor, "size size"]:
    """A line's Gaussian filter: weights exp(-d² / 2σ²) up to d = round(truncate · σ), which sum to 1."""
    if sigma < 1e-15:
        return torch.eye(size)
    reach = int(truncate * sigma + 0.5)
    distance = torch.arange(-reach, reach + 1, dtype=torch.float64)
    weight = torch.exp(-0.5 * (distance / sigma) ** 2)
    place = bordered(torch.arange(size, dtype=torch.float64)[:, None] + distance, size, border).round().long()
    matrix = torch.zeros(size, size, dtype=torch.float64)
    return matrix.scatter_add_(1, place, (weight / weight.sum()).expand(size, -1).contiguous()).float()


def gaussian(
    images: Float[Tensor, "B C S S"], sigma: float, truncate: float, border: Border
) -> Float[Tensor, "B C S S"]:
    """Square images filtered along both axes."""
    return both_axes(images, gaussian_matrix(images.shape[-1], float(sigma), truncate, border))


@cache
def zoom_matrix(size: int, factor: float) -> Float[Tensor, "size size"]:
    """The middle of a line, enlarged linearly by `factor` and cut to the line's length again.

    The outermost pixels of the cut stay where they are, as in `scipy.ndimage.zoom`.
    """
    inner = math.ceil(size / factor)
    outer = round(inner * factor)
    top, trimmed = (size - inner) // 2, (outer - size) // 2
    place = torch.arange(trimmed, trimmed + size, dtype=torch.float64)
    place = place * (inner - 1) / max(outer - 1, 1)
    below = place.floor().clamp(0, max(inner - 2, 0)).long()
    share = place - below
    matrix = torch.zeros(size, size, dtype=torch.float64)
    matrix.scatter_add_(1, (top + below)[:, None], (1 - share)[:, None])
    matrix.scatter_add_(1, (top + below + 1).clamp(max=size - 1)[:, None], share[:, None])
    return matrix.float()


def both_axes(images: Float[Tensor, "B C S S"], matrix: Float[Tensor, "S S"]) -> Float[Tensor, "B C S S"]:
    """The same map along rows and columns."""
    matrix = matrix.to(images.device)
    return matrix @ images @ matrix.T


def sampled(
    images: Float[Tensor, "B C H W"], row: Float[Tensor, "B H W"], column: Float[Tensor, "B H W"], border: Border
) -> Float[Tensor, "B C H W"]:
    """Each pixel linearly between the four around its (row, column)."""
    height, width = images.shape[-2:]
    row, column = bordered(row, height, border), bordered(column, width, border)
    top, left = (place.floor().clamp(0, side - 1) for place, side in ((row, height), (column, width)))
    down, right = (row - top)[:, None], (column - left)[:, None]
    made = torch.zeros_like(images)
    for i, vertical in enumerate((1 - down, down)):
        for j, horizontal in enumerate((1 - right, right)):
            r, c = (top + i).clamp(max=height - 1).long(), (left + j).clamp(max=width - 1).long()
            place = (r * width + c).flatten(1)[:, None].expand(-1, images.shape[1], -1)
            made += vertical * horizontal * images.flatten(2).gather(2, place).unflatten(2, (height, width))
    return made
