"""Maps of a guide that were computed once for every training image; each view's crop and flip are replayed on them.

The offline mode of Li et al., ECCV 2022, arXiv:2207.10026.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from smalldata_vit.contracts import Batch

Features = Literal["live", "stored"]
"""Where a guide's maps come from: `live`, the guide looks at every view; `stored`, it looked at every picture once."""


@dataclass(frozen=True)
class StoredMaps:
    """A guide's maps of whole training pictures, wherever there is room: in files that are mapped, or on the device."""

    maps: Sequence[Float[Tensor, "N _ _ _"]]
    """By the guide's stage; a row for each training image."""
    sizes: Float[Tensor, "N 2"]
    """Height and width of the pictures in pixels, in which a batch has its boxes; they lie where training runs."""

    @torch.no_grad()
    def __call__(self, batch: Batch, group: int) -> list[Float[Tensor, "n _ _ _"]]:
        """Maps of the views of a group, view after view of all images (n = V B), on the device of the batch."""
        boxes, flips = batch.boxes[group], batch.flips[group]
        sizes = self.sizes[batch.index][:, None]
        places = boxes / torch.cat([sizes, sizes], dim=2)
        here, there = boxes.device, self.maps[0].device
        index = batch.index.to(there)
        with torch.autocast(here.type, enabled=False):
            return [replayed(maps[index].to(here, non_blocking=True), places, flips) for maps in self.maps]


def replayed(
    maps: Float[Tensor, "B C h w"], places: Float[Tensor, "B V 4"], flips: Bool[Tensor, "B V"]
) -> Float[Tensor, "n C h w"]:
    """What is cut out of each map by its views, resized to the map's own size and mirrored where told; n = V B.

    `places`: top, left, height and width as shares of the picture. It is bilinear; no cell beyond a box is looked at,
    as if the map were cut first and resized then, which it is for boxes that end between two cells. What lies outside
    the picture is the map's edge.
    """
    top, left, height, width = places.transpose(0, 1).flatten(0, 1).unbind(1)
    rows, columns = maps.shape[-2:]
    down = sampled(top, height, rows)
    across = sampled(left, width, columns)
    across = torch.where(flips.T.flatten()[:, None], across.flip(1), across)
    each = len(top), rows, columns
    grid = torch.stack([across[:, None, :].expand(each), down[:, :, None].expand(each)], dim=3)
    several = maps.repeat(places.shape[1], 1, 1, 1)
    return F.grid_sample(several, grid, mode="bilinear", padding_mode="border", align_corners=False)


def sampled(start: Float[Tensor, " n"], length: Float[Tensor, " n"], cells: int) -> Float[Tensor, "n cells"]:
    """Where the centres of `cells` cells of a stretch of the whole lie, -1 to 1 from edge to edge of the whole."""
    centre = (torch.arange(cells, device=start.device) + 0.5) / cells
    middle, half = start + length / 2, 0.5 / cells
    low, high = torch.minimum(start + half, middle), torch.maximum(start + length - half, middle)
    at = start[:, None] + length[:, None] * centre
    return 2 * torch.minimum(torch.maximum(at, low[:, None]), high[:, None]) - 1
