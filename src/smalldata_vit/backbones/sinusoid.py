"""The sinusoid position table of Attention Is All You Need (Vaswani et al., NeurIPS 2017, arXiv:1706.03762, 3.5).

Positions are counted along the sequence (class token 0, then the grid row by row), as T2T-ViT does.
"""

from functools import cache
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from smalldata_vit.backbones.positions import resized

FixedPositions = Literal["interpolated", "recomputed"]
"""For another grid than the network's own: its table resampled (bicubic, by the ratio of the grids, the class token's
row kept), as Cao, Yu and Wu do from 112 to 224 px, or the formula of the longer or shorter sequence."""


def sinusoid(count: int, width: int, device: torch.device | str | None = None) -> Float[Tensor, "1 count width"]:
    """sin (even columns j) and cos (odd) of position / 10000^(2⌊j/2⌋ / width), computed in float64."""
    column = torch.arange(width, dtype=torch.float64, device=device)
    position = torch.arange(count, dtype=torch.float64, device=device)
    angle = position[:, None] / 10000 ** (2 * (column // 2) / width)
    return torch.where(column % 2 == 0, angle.sin(), angle.cos()).float()[None]


def at_grid(
    table: Float[Tensor, "1 old D"], own: tuple[int, int], grid: tuple[int, int], rule: FixedPositions
) -> Float[Tensor, "1 new D"]:
    """The table of a class token and the `own` grid, for another one; the same table if the grids are equal."""
    if own == grid:
        return table
    if rule == "recomputed":
        return _recomputed(1 + grid[0] * grid[1], table.shape[2], table.device)
    return torch.cat([table[:, :1], resized(table[:, 1:], own, grid, "size")], dim=1)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _recomputed(count: int, width: int, device: torch.device) -> Tensor:
    return _kept(count, width, device)


# One small table a size and device, apart from its caller, as compilation looks past a cache. Outside inference mode,
# because a tensor made in it could not be used in training again.
@cache
def _kept(count: int, width: int, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return sinusoid(count, width, "cpu").to(device)
