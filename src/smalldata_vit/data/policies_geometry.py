"""Shears, translations and rotations of views, each view with a matrix of its own: as torchvision makes them on
tensors, and as Pillow does.

torchvision's functions take one matrix for all images; `F.grid_sample`, which they end in, takes a grid for each.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

FIXED = 65536.0
"""Pillow's nearest neighbours are found in fixed point with 16 bits after the point."""


def affine(
    parameters: Float[Tensor, "m 10"], size: int, whole: bool
) -> tuple[tuple[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]:
    """The rows (a, b, c) and (d, e, f) of each matrix, every number (m, 1, 1) in float64, lengths in pixels.

    `whole`: shifts are cut to whole pixels.
    """
    a, b, d, e, right, down, right_pixels, down_pixels, centre = parameters[:, 1:, None, None].unbind(1)
    shifts = [share * size + pixels for share, pixels in ((right, right_pixels), (down, down_pixels))]
    centre, (right, down) = centre * size, [shift.trunc() if whole else shift for shift in shifts]
    c, f = (p * (-centre - right) + q * (-centre - down) + centre for p, q in ((a, b), (d, e)))
    return (a, b, c), (d, e, f)


def filled(fill: Sequence[int], like: Tensor) -> Tensor:
    """A colour as (1, 3, 1, 1), made on the device: a tensor of Python numbers would be copied there and waited for."""
    return torch.stack([like.new_full((1, 1, 1), value) for value in fill], 1)


def warp_as_torchvision(
    images: UInt8[Tensor, "m 3 S S"], parameters: Float[Tensor, "m 10"], mode: str, fill: Sequence[int]
) -> UInt8[Tensor, "m 3 S S"]:
    """torchvision's `affine` and `rotate`; `mode` is nearest or bilinear."""
    size = images.shape[-1]
    place = torch.arange(size, dtype=torch.float32, device=images.device) - (size - 1) / 2
    x, y = place[None, None, :], place[None, :, None]
    half = 0.5 * size
    grid = []
    for row in affine(parameters, size, whole=True):
        a, b, c = (value.float() / half for value in row)
        grid.append(x * a + y * b + c)  # in the order of torchvision's product: one bit decides between two neighbours
    values = torch.ones(len(images), 4, size, size, device=images.device)
    values[:, :3] = images
    values = F.grid_sample(values, torch.stack(grid, 3), mode=mode, padding_mode="zeros", align_corners=False)
    made, inside, colour = values[:, :3], values[:, 3:], filled(fill, values)
    if mode == "nearest":
        return torch.where(inside < 0.5, colour, made).to(torch.uint8)
    return (made * inside + (1 - inside) * colour).round_().to(torch.uint8)


def nearest_as_pillow(
    images: UInt8[Tensor, "m 3 S S"], parameters: Float[Tensor, "m 10"], fill: Sequence[int]
) -> UInt8[Tensor, "m 3 S S"]:
    """Pillow's `transform(size, AFFINE, …, NEAREST)`, bit for bit."""
    size = images.shape[-1]
    place = torch.arange(size, device=images.device)
    x, y = place[None, None, :], place[None, :, None]
    (a, b, c), (d, e, f) = affine(parameters, size, whole=False)
    turned = (b != 0) | (d != 0)
    source_x = (fixed(c + a * 0.5 + b * 0.5) + fixed(a) * x + fixed(b) * y) >> 16
    source_y = (fixed(f + d * 0.5 + e * 0.5) + fixed(d) * x + fixed(e) * y) >> 16
    source_x = torch.where(turned, source_x, (c + a * 0.5 + a * x).floor().long())  # only moved: not in fixed point
    source_y = torch.where(turned, source_y, (f + e * 0.5 + e * y).floor().long())
    return picked(images, source_x, source_y, fill)


def fixed(value: Float[Tensor, "m 1 1"]) -> Int[Tensor, "m 1 1"]:
    """As a whole number of 65536ths."""
    return (value * FIXED + 0.5).floor().long()


def picked(
    images: UInt8[Tensor, "m 3 S S"], x: Int[Tensor, "m S S"], y: Int[Tensor, "m S S"], fill: Sequence[int]
) -> UInt8[Tensor, "m 3 S S"]:
    """Every pixel from the place (x, y), or the colour where that lies outside."""
    size = images.shape[-1]
    inside = (x >= 0) & (x < size) & (y >= 0) & (y < size)
    index = (y * size + x).clamp_(0, size * size - 1).flatten(1)[:, None]
    made = images.flatten(2).gather(2, index.expand(-1, 3, -1)).reshape(images.shape)
    return torch.where(inside[:, None], made, filled(fill, images))


def smooth_as_pillow(
    images: UInt8[Tensor, "m 3 S S"], parameters: Float[Tensor, "m 10"], cubic: bool, fill: Sequence[int]
) -> UInt8[Tensor, "m 3 S S"]:
    """Pillow's `transform(size, AFFINE, …)` with BILINEAR, or with BICUBIC whose parameter is -1.

    In float64 as there, since results are cut, not rounded, to whole numbers.
    """
    size = images.shape[-1]
    place = torch.arange(size, dtype=torch.float64, device=images.device) + 0.5
    x, y = (
        a * place[None, None, :] + b * place[None, :, None] + c for a, b, c in affine(parameters, size, whole=False)
    )
    inside = (x >= 0) & (x < size) & (y >= 0) & (y < size)
    taps = range(-1, 3) if cubic else range(2)
    columns, along = neighbours(x, taps, size)
    rows, across = neighbours(y, taps, size)
    flat, between = images.flatten(2), cubic_between if cubic else linear_between

    def line(row: Tensor) -> Tensor:
        index = [(row * size + column).flatten(1)[:, None].expand(-1, 3, -1) for column in columns]
        return between([flat.gather(2, one).double().reshape(images.shape) for one in index], along)

    made = between([line(row) for row in rows], across).clamp_(0, 255).to(torch.uint8)
    return torch.where(inside[:, None], made, filled(fill, images))


def neighbours(
    place: Float[Tensor, "m S S"], taps: range, size: int
) -> tuple[list[Int[Tensor, "m S S"]], Float[Tensor, "m 1 S S"]]:
    """The pixels around a place, those beyond the border replaced by the outermost, and the distance to the first."""
    low = (place - 0.5).floor()
    first = low.long()
    return [(first + tap).clamp(0, size - 1) for tap in taps], (place - 0.5 - low)[:, None]


def linear_between(values: Sequence[Tensor], share: Tensor) -> Tensor:
    """Between two values."""
    left, right = values
    return left + (right - left) * share


def cubic_between(values: Sequence[Tensor], share: Tensor) -> Tensor:
    """Between the inner two of four values, cubic convolution with a = -1 (Keys 1981)."""
    p, q, r, s = values
    return q + share * (r - p + share * (2 * (p - q) + r - s + share * (q - p - r + s)))
