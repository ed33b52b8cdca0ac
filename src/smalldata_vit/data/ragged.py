"""Pictures of different sizes in one buffer, and their crops without a launch for each: a gather of the few taps."""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from smalldata_vit.contracts import Ragged
from smalldata_vit.data.resampling import KERNELS, REACH, Interpolation


def whole(pictures: Ragged) -> Float[Tensor, "B 1 4"]:
    """The boxes of the entire pictures."""
    nothing = torch.zeros_like(pictures.heights)
    return torch.stack([nothing, nothing, pictures.heights, pictures.widths], 1).float()[:, None]


def taps(
    start: Float[Tensor, " n"],
    length: Float[Tensor, " n"],
    mirrored: Bool[Tensor, " n"] | None,
    size: int,
    count: int,
    interpolation: Interpolation,
) -> tuple[Int[Tensor, "n size count"], Float[Tensor, "n size count"]]:
    """Which pixels from `start` on make each of `size` output pixels of [start, start + length), and their weights.

    At most `count` are neighbours; what is outside the interval weighs nothing. Weights sum to one.
    """
    places = (torch.arange(size, dtype=torch.float32, device=start.device) + 0.5).expand(len(start), size)
    if mirrored is not None:
        places = torch.where(mirrored[:, None], size - places, places)
    scale = (length / size)[:, None]
    wide, centre = scale.clamp(min=1), places * scale
    first = torch.floor(centre - REACH[interpolation] * wide + 0.5)
    pixel = first[..., None] + torch.arange(count, device=start.device)
    weights = KERNELS[interpolation]((pixel + 0.5 - centre[..., None]) / wide[..., None])
    weights = weights * ((pixel >= 0) & (pixel < length[:, None, None]))
    pixel = pixel.clamp(min=0).minimum(length[:, None, None] - 1)
    return pixel.long(), weights / weights.sum(2, keepdim=True)


def resize_ragged(
    pictures: Ragged,
    boxes: Float[Tensor, "B V 4"],
    flips: Bool[Tensor, "B V"],
    size: int,
    interpolation: Interpolation,
) -> Float[Tensor, "n 3 size size"]:
    """What `resize_crops` makes, from pictures of different sizes; values 0..1, n = B V.

    Rows are summed first, over all columns that a crop of the largest picture may have: a few launches, or one fused
    loop when compiled, however many pictures there are. Nothing is read by the host.
    """
    views = boxes.shape[1]
    top, left, rows, columns = boxes.flatten(0, 1).unbind(1)
    count = math.ceil(2 * REACH[interpolation] * max(pictures.longest / size, 1)) + 1
    row, row_weight = taps(top, rows, None, size, count, interpolation)
    column, column_weight = taps(left, columns, flips.flatten(), size, count, interpolation)
    offset, width = (each.repeat_interleave(views)[:, None, None] for each in (pictures.offsets, pictures.widths))
    begins = offset + 3 * ((row + top.long()[:, None, None]) * width + left.long()[:, None, None])
    byte = torch.arange(3 * pictures.longest, device=boxes.device).minimum(3 * columns.long()[:, None] - 1)[:, None]
    lines = torch.zeros(len(top), size, 3 * pictures.longest, device=boxes.device)
    for tap in range(count):
        lines = lines + pictures.pixels[begins[:, :, tap, None] + byte] * row_weight[:, :, tap, None]
    lines = lines.unflatten(2, (-1, 3))
    made = torch.zeros(len(top), size, size, 3, device=boxes.device)
    for tap in range(count):
        index = column[:, None, :, tap, None].expand(-1, size, -1, 3)
        made = made + lines.gather(2, index) * column_weight[:, None, :, tap, None]
    return (made / 255).clamp(0, 1).permute(0, 3, 1, 2).contiguous()
