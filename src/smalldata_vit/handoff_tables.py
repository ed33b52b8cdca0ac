"""Tables of positions at another grid or window: the resampling rules of a hand-off.

Class and other extra tokens have rows of their own before the grid's; those stay as they are.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Rule = Literal["bicubic", "scale_factor", "recomputed", "none"]
"""How a table reaches another grid: `bicubic` by the ratio of the grids; `scale_factor` as DINO's code does, by
(new + 0.1) / old; `recomputed` keeps what the network's own formula gave (T2T-ViT's sinusoid), for tables that do not
train; `none` refuses."""

EXTRA_TOKENS = ("cls_token", "dist_token", "reg_token")


@dataclass(frozen=True)
class Table:
    """Which part of a weight is a square grid, before and after."""

    old: int
    """Side of the offered grid: tokens, or relative offsets (2 · window - 1)."""
    new: int
    extra: int = 0
    """Rows before the grid."""
    channels_first: bool = False
    """(1, D, side, side), as PiT's table, else one row a place."""


def table_of(name: str, offered: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Table | None:
    """The grids of a weight that is a table of positions in both states and differs in nothing but its grid, else None.

    `pos_embed` (1, N, D) is learned or fixed, with or without rows of extra tokens, (1, D, h, w) is PiT's;
    `relative_position_bias_table` ((2 · window - 1)², heads) is Swin's.
    """
    old, new, kind = offered[name], own[name], name.rpartition(".")[2]
    if old.ndim != new.ndim:
        return None
    if kind == "pos_embed" and old.ndim == 3 and old.shape[::2] == new.shape[::2]:
        extra = _extra_rows(name, own)
        if extra is None or extra != _extra_rows(name, offered):
            return None
        return Table(math.isqrt(old.shape[1] - extra), math.isqrt(new.shape[1] - extra), extra)
    if kind == "pos_embed" and old.ndim == 4 and old.shape[:2] == new.shape[:2]:
        square = old.shape[2] == old.shape[3] and new.shape[2] == new.shape[3]
        return Table(old.shape[2], new.shape[2], channels_first=True) if square else None
    if kind == "relative_position_bias_table" and old.ndim == 2 and old.shape[1] == new.shape[1]:
        sides = math.isqrt(old.shape[0]), math.isqrt(new.shape[0])
        square = (sides[0] ** 2, sides[1] ** 2) == (old.shape[0], new.shape[0])
        return Table(*sides) if square else None
    return None


def _extra_rows(name: str, state: Mapping[str, Tensor]) -> int | None:
    """Rows of a table before its square grid: one for each class, distillation or register token, or none at all."""
    stem, rows = name.removesuffix("pos_embed"), state[name].shape[1]
    tokens = (state.get(stem + token) for token in EXTRA_TOKENS)
    extra = sum(token.shape[1] for token in tokens if token is not None)
    return next((e for e in (extra, 0) if rows > e and math.isqrt(rows - e) ** 2 == rows - e), None)


def resize(values: Tensor, table: Table, rule: Rule) -> Tensor:
    """The table at its new grid by `bicubic` or `scale_factor`, float32, in its own form."""
    if table.channels_first:
        return resampled(values.float(), table, rule)
    rows = values if values.ndim == 3 else values[None]
    grid = rows[:, table.extra :].float().unflatten(1, (table.old, table.old)).permute(0, 3, 1, 2)
    wanted = resampled(grid, table, rule).flatten(2).transpose(1, 2)
    wanted = torch.cat([rows[:, : table.extra].float(), wanted], dim=1)
    return wanted if values.ndim == 3 else wanted[0]


def resampled(grid: Float[Tensor, "1 D old old"], table: Table, rule: Rule) -> Float[Tensor, "1 D new new"]:
    """Bicubic interpolation without antialiasing, corners not aligned."""
    if rule == "scale_factor":
        return F.interpolate(grid, scale_factor=(table.new + 0.1) / table.old, mode="bicubic")
    return F.interpolate(grid, size=(table.new, table.new), mode="bicubic")
