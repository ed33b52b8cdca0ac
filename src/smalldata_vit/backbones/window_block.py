"""Attention within windows of a grid of any size: the block of a Swin Transformer.

Liu et al., Swin Transformer, ICCV 2021, arXiv:2103.14030, sections 3.2 and 3.3.
"""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from timm.models import swin_transformer
from torch import Tensor, nn

from smalldata_vit.backbones import drop_path
from smalldata_vit.backbones.added_attention import attend_with
from smalldata_vit.backbones.locality_attention import head_scales, own_tokens
from smalldata_vit.backbones.recomputing import recomputed
from smalldata_vit.backbones.vit import Attention
from smalldata_vit.backbones.windows import Fit, fit_window, needs_mask, padding, window_mask


class WindowAttention(swin_transformer.WindowAttention):
    """timm's attention within windows with a choice of form, for windows up to its own; with locality LSA's."""

    qkv: nn.Linear
    relative_position_index: Tensor
    proj: nn.Linear

    def __init__(self, width: int, heads: int, window: tuple[int, int], form: Attention, locality: bool) -> None:
        super().__init__(width, heads, window_size=window, qkv_bias=True)
        self.form = form
        self.head_scale = head_scales(heads, width // heads) if locality else None

    def forward(  # type: ignore[override]
        self, tokens: Float[Tensor, "rows N D"], window: tuple[int, int], mask: Float[Tensor, "windows N N"] | None
    ) -> Float[Tensor, "rows N D"]:
        """Tokens of windows of this size, image by image, mixed within each; `mask` is added to the similarities."""
        rows, number, width = tokens.shape
        joint = self.qkv(tokens).reshape(rows, number, 3, self.num_heads, -1)
        query, key, value = joint.permute(2, 0, 3, 1, 4).unbind(0)
        added = self._bias(window)[None]
        if mask is not None:
            added = added + mask[:, None]
        if self.head_scale is None:
            query = query * self.scale
        else:
            query = query * self.head_scale.to(query.dtype)[:, None, None]
            added = added + own_tokens(number, tokens.device)
        mixed = attend_with(query, key, value, added, self.form)
        return self.proj(mixed.transpose(1, 2).reshape(rows, number, width))

    def _bias(self, window: tuple[int, int]) -> Float[Tensor, "heads N N"]:
        """Relative position bias B of eq. (4) of the Swin paper, for the upper left part of the own window."""
        index, number = self.relative_position_index, window[0] * window[1]
        if window != self.window_size:
            index = index.reshape(*self.window_size, *self.window_size)
            index = index[: window[0], : window[1], : window[0], : window[1]]
        bias: Tensor = self.relative_position_bias_table[index.reshape(-1)]
        return bias.reshape(number, number, -1).permute(2, 0, 1)


class WindowBlock(swin_transformer.SwinTransformerBlock):
    """timm's block for grids of any size, filled up before they are shifted as in the code of the paper."""

    drop_path1: nn.Module  # type: ignore[assignment]  # ours: masks belong to places in the global batch
    drop_path2: nn.Module  # type: ignore[assignment]

    def __init__(
        self,
        like: swin_transformer.SwinTransformerBlock,
        heads: int,
        window: int,
        shift: int,
        eps: float,
        rate: float,
        fit: Fit,
        attention: Attention,
        locality: bool,
    ) -> None:
        norm: Any = partial(nn.LayerNorm, eps=eps)
        super().__init__(
            like.dim,
            like.input_resolution,
            heads,
            window_size=window,
            shift_size=shift,
            dynamic_mask=True,
            mlp_ratio=like.mlp_ratio,
            norm_layer=norm,
        )
        self.fit, self.recompute = fit, False
        self.attn = WindowAttention(like.dim, heads, self.window_size, attention, locality)
        self.drop_path1, self.drop_path2 = drop_path.DropPath(rate), drop_path.DropPath(rate)

    def forward(self, x: Float[Tensor, "B h w D"]) -> Float[Tensor, "B h w D"]:
        """The tokens after attention and MLP, on their grid."""
        if self.recompute and torch.is_grad_enabled():
            return recomputed(super().forward, x)
        return super().forward(x)

    def _attn(self, x: Float[Tensor, "B h w D"]) -> Float[Tensor, "B h w D"]:
        grid = (x.shape[1], x.shape[2])
        window, shift = fit_window(grid, self.window_size, self.shift_size, self.fit)
        rows, columns = padding(grid, window)
        filled = F.pad(x, (0, 0, 0, columns, 0, rows)) if rows or columns else x
        moved = torch.roll(filled, (-shift[0], -shift[1]), (1, 2)) if any(shift) else filled
        mask = (
            window_mask(grid, window, shift, self.fit, x.device) if needs_mask(grid, window, shift, self.fit) else None
        )
        cut = swin_transformer.window_partition(moved, window)
        mixed = self.attn(cut.flatten(1, 2), window, mask).unflatten(1, window)
        joined = swin_transformer.window_reverse(mixed, window, grid[0] + rows, grid[1] + columns)
        back = torch.roll(joined, shift, (1, 2)) if any(shift) else joined
        return back[:, : grid[0], : grid[1]]
