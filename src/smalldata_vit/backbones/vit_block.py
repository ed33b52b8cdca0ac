"""One block of a ViT, for networks that are not one from the first layer on."""

from functools import partial
from typing import Any

from torch import nn

from smalldata_vit.backbones.drop_path import DropPath
from smalldata_vit.backbones.vit import Attention, Block


def vit_block(
    width: int, heads: int, mlp_ratio: float, qkv_bias: bool, norm_eps: float, drop_prob: float, attention: Attention
) -> Block:
    """A block with our drop path and form of attention, its weights as timm's class begins them."""
    norm: Any = partial(nn.LayerNorm, eps=norm_eps)
    block: Any = Block(width, heads, mlp_ratio, qkv_bias=qkv_bias, norm_layer=norm)
    block.attention, block.drop_path1, block.drop_path2 = attention, DropPath(drop_prob), DropPath(drop_prob)
    made: Block = block
    return made
