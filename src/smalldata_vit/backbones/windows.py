"""Which tokens of a grid share a window, and which of those may see each other.

Liu et al., Swin Transformer, ICCV 2021, arXiv:2103.14030, section 3.2.
"""

from functools import cache
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Fit = Literal["padded", "fitted"]
"""What happens on grids that are no multiple of the window. `padded`: they are filled up with zeros at the lower right,
which are seen like tokens, and windows and shifts stay as on the native grid (the Swin of Gani et al., BMVC 2022).
`fitted`: nothing that is no token is seen, and a grid that fits into one window is one window, not shifted."""

HIDDEN = -100.0
"""Added to the similarity of tokens that must not see each other."""


def fit_window(
    grid: tuple[int, int], window: tuple[int, int], shift: tuple[int, int], fit: Fit
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Window and shift (rows, columns) on this grid, from those of the native grid."""
    if fit == "padded":
        return window, shift
    rows, columns = (side <= own for side, own in zip(grid, window, strict=True))
    return (
        (grid[0] if rows else window[0], grid[1] if columns else window[1]),
        (0 if rows else shift[0], 0 if columns else shift[1]),
    )


def padding(grid: tuple[int, int], window: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns that the grid lacks to be a multiple of the window."""
    return -grid[0] % window[0], -grid[1] % window[1]


def needs_mask(grid: tuple[int, int], window: tuple[int, int], shift: tuple[int, int], fit: Fit) -> bool:
    """Whether some tokens of some window must not see each other."""
    return any(shift) or (fit == "fitted" and any(padding(grid, window)))


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def window_mask(
    grid: tuple[int, int], window: tuple[int, int], shift: tuple[int, int], fit: Fit, device: torch.device
) -> Float[Tensor, "windows N N"]:
    """What is added to the similarities within each window of the padded and shifted grid: 0 or `HIDDEN`."""
    return _kept_mask(grid, window, shift, fit, device)


# One small tensor a grid and device; see positions.py for inference mode and for the two functions.
@cache
def _kept_mask(
    grid: tuple[int, int], window: tuple[int, int], shift: tuple[int, int], fit: Fit, device: torch.device
) -> Tensor:
    lacking = padding(grid, window)
    sides = (grid[0] + lacking[0], grid[1] + lacking[1])
    with torch.inference_mode(False), torch.device("cpu"):
        rows, columns = (torch.tensor(_bands(*axis)) for axis in zip(sides, window, shift, strict=True))
        region = rows[:, None] * 3 + columns
        if fit == "fitted":
            token = F.pad(torch.ones(grid), (0, lacking[1], 0, lacking[0])).roll((-shift[0], -shift[1]), (0, 1))
            region = torch.where(token > 0, region, -1)
        cut = region.unflatten(1, (-1, window[1])).unflatten(0, (-1, window[0]))
        within = cut.transpose(1, 2).reshape(-1, window[0] * window[1])
        return ((within[:, :, None] != within[:, None, :]) * HIDDEN).to(device)


def _bands(side: int, window: int, shift: int) -> list[int]:
    """Regions along a shifted axis that were no neighbours before the shift; only the last window holds two."""
    return [0] * (side - window) + [1] * (window - shift) + [2] * shift if shift else [0] * side
