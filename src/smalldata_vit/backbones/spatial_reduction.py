"""Attention whose keys and values come from a coarser grid: what PVT and PVTv2 share.

Wang et al., Pyramid Vision Transformer, ICCV 2021, arXiv:2102.12122, section 3.3.
"""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from smalldata_vit.backbones.intermediates import as_map, as_tokens
from smalldata_vit.backbones.vit import Attention, attend


def reduced_attention(
    layer: Any, tokens: Float[Tensor, "B N D"], grid: tuple[int, int], form: Attention
) -> Float[Tensor, "B N D"]:
    """Each token attends to the grid as the layer's convolution `sr` has shrunk it, or to all tokens without one.

    `layer`: has `q`, `kv`, `proj`, `num_heads`, and `sr` with `norm`, or None for both.
    """
    images, number, width = tokens.shape
    source = tokens if layer.sr is None else layer.norm(as_tokens(layer.sr(as_map(tokens, grid))))
    query = layer.q(tokens).reshape(images, number, layer.num_heads, -1).transpose(1, 2)
    key, value = layer.kv(source).reshape(images, -1, 2, layer.num_heads, width // layer.num_heads).unbind(2)
    mixed = attend(query, key.transpose(1, 2), value.transpose(1, 2), form)
    return layer.proj(mixed.transpose(1, 2).reshape(images, number, width))


def check_reductions(height: int, width: int, reductions: Sequence[int], overlapping: bool) -> None:
    """ValueError, with the smallest side that fits, unless every stage's grid can be shrunk.

    Stage i has a token for 4·2^i pixels, and its keys one for `reductions[i]` tokens. `overlapping`: patches reach
    over the border, so that a row of tokens needs one pixel, not all of its own.
    """
    own = ((4 * 2**stage, reduction) for stage, reduction in enumerate(reductions))
    smallest = max(stride * (tokens - 1) + 1 if overlapping else stride * tokens for stride, tokens in own)
    if min(height, width) < smallest:
        raise ValueError(
            f"Images of {height} x {width} pixels leave grids too small for attention with reductions "
            f"{list(reductions)}: sides of at least {smallest} px are needed."
        )
