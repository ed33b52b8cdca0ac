"""Position tables at other grid sizes: bicubic resampling as a product with constant matrices.

The numbers are those of `torch.nn.functional.interpolate(mode="bicubic", align_corners=False, antialias=False)`. As a
matrix product the backward pass repeats bit for bit on a GPU, where the interpolation's own does not.
"""

import math
from functools import cache
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Resampling = Literal["scale_factor", "size"]
"""`scale_factor`: pixels of the old grid per pixel of the new are old / (new + 0.1), as in DINO's code (Caron et al.,
arXiv:2104.14294), which adds 0.1 against rounding and shifts the samples by it; `size`: old / new."""

Positions = Literal["scale_factor", "size", "slice"]
"""One of the two resamplings, or `slice`: the first rows of the table as it is stored, row by row of the old grid
(the CaiT of Gani et al., BMVC 2022: a crop of half the size sees the upper half of the table)."""


def cubic(distance: float) -> float:
    """Weight of a sample at this distance: cubic convolution (Keys, 1981) with a = -0.75, torch's value."""
    a, d = -0.75, abs(distance)
    if d <= 1:
        return ((a + 2) * d - (a + 3)) * d * d + 1
    return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a if d < 2 else 0.0


def axis_matrix(old: int, new: int, rule: Resampling) -> list[list[float]]:
    """Weights (new, old) that resample one axis; samples outside repeat the border."""
    step = old / (new + 0.1) if rule == "scale_factor" else old / new
    matrix = [[0.0] * old for _ in range(new)]
    for i, row in enumerate(matrix):
        centre = (i + 0.5) * step - 0.5
        for j in range(math.floor(centre) - 1, math.floor(centre) + 3):
            row[min(max(j, 0), old - 1)] += cubic(centre - j)
    return matrix


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def resize_matrix(
    old: tuple[int, int], new: tuple[int, int], rule: Resampling, device: torch.device
) -> Float[Tensor, "new old"]:
    """The matrix (rows·columns of the new grid, rows·columns of the old) that resamples a table, in float32."""
    return _kept_matrix(old, new, rule, device)


# One small matrix a size and device. Inference mode is left because a tensor made in it (a size may first be seen in
# validation) could never be used in training again. Apart from its caller, as compilation looks past a cache.
@cache
def _kept_matrix(old: tuple[int, int], new: tuple[int, int], rule: Resampling, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        vertical, horizontal = (
            torch.tensor(axis_matrix(o, n, rule), dtype=torch.float64, device="cpu")
            for o, n in zip(old, new, strict=True)
        )
        return torch.kron(vertical, horizontal).float().to(device)


def resized(
    table: Float[Tensor, "1 old D"], old: tuple[int, int], new: tuple[int, int], rule: Positions
) -> Float[Tensor, "1 new D"]:
    """The table of an old grid (rows, columns) at a new one; the same table if the grids are equal.

    Resampled in float32. ValueError from `slice` for a new grid of more tokens than the table has.
    """
    if old == new:
        return table
    if rule == "slice":
        tokens = new[0] * new[1]
        if tokens > table.shape[1]:
            raise ValueError(
                f"A grid of {new[0]} x {new[1]} needs {tokens} positions, the table of {old[0]} x {old[1]} has "
                f"{table.shape[1]}: choose positions=size or positions=scale_factor for images larger than image_size."
            )
        return table[:, :tokens]
    kind = "cpu" if table.is_meta else table.device.type  # there is no autocast for meta
    with torch.autocast(kind, enabled=False):
        return resize_matrix(old, new, rule, table.device) @ table.float()
