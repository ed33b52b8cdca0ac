"""Antialiased resizing as matrix products: the weight of each source pixel in each output pixel, as Pillow has it."""

from typing import Literal

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

Interpolation = Literal["bicubic", "bilinear"]


def cubic(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Keys' cubic kernel with a = -0.5 (1981), the one of Pillow and of torch's antialiased resize.

    With u = max(2 - |x|, 0) and v = max(1 - |x|, 0) it is u²(u - 1)/2 + v²(1 - 2v), without a case distinction.
    """
    distance = x.abs()
    u, v = (2 - distance).clamp_(min=0), (1 - distance).clamp_(min=0)
    return u.mul(u).mul_(u.sub_(1)).mul_(0.5).add_(v.mul(v).mul_(v.mul_(-2).add_(1)))


def triangle(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Kernel of linear interpolation, max(1 - |x|, 0)."""
    return (1 - x.abs()).clamp_(min=0)


KERNELS = {"bicubic": cubic, "bilinear": triangle}
REACH = {"bicubic": 2, "bilinear": 1}
"""Beyond this distance, in pixels of the coarser of source and result, a kernel is zero."""


def resize_weights(
    start: Float[Tensor, " n"],
    length: Float[Tensor, " n"],
    mirrored: Bool[Tensor, " n"] | None,
    size: int,
    extent: int,
    interpolation: Interpolation,
    total: float = 1.0,
) -> Float[Tensor, "n size extent"]:
    """How much each of `extent` pixels counts in each of `size` output pixels made of [start, start + length).

    Rows sum to `total`; pixels outside the interval count nothing; mirrored rows stand in reverse.
    """
    place = torch.arange(size, dtype=torch.float32, device=start.device) + 0.5
    places = place.expand(len(start), size)
    if mirrored is not None:
        places = torch.where(mirrored[:, None], size - places, places)
    scale = (length / size)[:, None]
    centre = start[:, None] + places * scale
    pixel = torch.arange(extent, dtype=torch.float32, device=start.device) + 0.5
    inside = (pixel > start[:, None]) & (pixel < (start + length)[:, None])
    weights = KERNELS[interpolation]((pixel - centre[:, :, None]).div_(scale.clamp(min=1)[:, :, None]))
    weights.mul_(inside[:, None])
    return weights.mul_(total / weights.sum(2, keepdim=True))


def resize_crops(
    pictures: UInt8[Tensor, "B 3 H W"],
    boxes: Float[Tensor, "B V 4"],
    flips: Bool[Tensor, "B V"],
    size: int,
    interpolation: Interpolation,
) -> Float[Tensor, "n 3 size size"]:
    """Crops of equally large pictures, resized to squares and mirrored; values 0..1, n = B V.

    Two matrix products per crop, the first shared by all crops of a picture. On the CPU a row's bits do not depend on
    the other rows (each product of a batch is computed alone; tested); on an accelerator that cannot be promised.
    """
    (count, views), (height, width) = boxes.shape[:2], pictures.shape[-2:]
    top, left, rows, columns = boxes.flatten(0, 1).unbind(1)
    down = resize_weights(top, rows, None, size, height, interpolation, 1 / 255)
    across = resize_weights(left, columns, flips.flatten(), size, width, interpolation)
    source = pictures.transpose(1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    lines = down.reshape(count, views * size, height) @ source.reshape(count, height, 3 * width)
    made = lines.reshape(-1, size * 3, width) @ across.transpose(1, 2)
    crops = torch.empty(count * views, 3, size, size, device=made.device)
    torch.clamp(made.reshape(-1, size, 3, size).transpose(1, 2), 0, 1, out=crops)
    return crops
