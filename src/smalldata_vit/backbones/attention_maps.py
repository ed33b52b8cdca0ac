"""Where a network looks: the attention of its last block, and the rollout of all blocks, without hooks.

The map of the class token over patches is that of DINO (Caron et al., ICCV 2021, arXiv:2104.14294); rollout is that of
Abnar and Zuidema, ACL 2020, arXiv:2005.00928. Networks are expected in evaluation mode, without dropped paths.
"""

from collections.abc import Iterable
from functools import singledispatch
from typing import Any, cast

import torch
from jaxtyping import Float
from timm.models.cait import LayerScaleBlockClassAttn
from timm.models.swin_transformer import window_partition, window_reverse
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from smalldata_vit.backbones.attention_weights import Weights, attention_weights, of_windows, refuse
from smalldata_vit.backbones.cait import CaiT
from smalldata_vit.backbones.sl_cait import ClassBlock
from smalldata_vit.backbones.swin import Swin
from smalldata_vit.backbones.window_block import WindowBlock
from smalldata_vit.backbones.windows import fit_window, needs_mask, padding, window_mask


@singledispatch
@torch.no_grad()
def attention_maps(network: nn.Module, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B heads h w"]:
    """How much the last block takes of each patch, a map for each head.

    ViT and CaiT with a class token: the weights of that token, without its own; a map sums to less than 1. Swin, and
    ViT without class token: the mean over all queries; a map of Swin sums to 1 over all windows, less what fell on
    padding. ValueError for other networks.
    """
    refuse(network)


@attention_maps.register(VisionTransformer)
@torch.no_grad()
def of_vit(network: VisionTransformer, images: Tensor) -> Tensor:
    """ViT, SL-ViT and timm's."""
    tokens = embedded(network, images)
    *earlier, last = cast(Iterable[Any], network.blocks)
    for block in earlier:
        tokens = block(tokens)
    return on_grid(network, images, attention_weights(last.attn, last.norm1(tokens)))


@attention_maps.register(CaiT)
@torch.no_grad()
def of_cait(network: CaiT, images: Tensor) -> Tensor:
    """CaiT and SL-CaiT: the last of the blocks in which the class token moves."""
    (patches,) = network.forward_intermediates(images, indices=1, intermediates_only=True)
    tokens, token = patches.flatten(2).transpose(1, 2), network.cls_token.expand(len(images), -1, -1)
    *earlier, last = cast(Iterable[Any], network.blocks_token_only)
    for block in earlier:
        token = block(tokens, token)
    return class_row(last, token, tokens).unflatten(2, patches.shape[2:])


@singledispatch
def class_row(block: nn.Module, token: Tensor, tokens: Tensor) -> Float[Tensor, "B heads N"]:
    """What the class token takes of each patch in a block that moves it alone."""
    refuse(block)


@class_row.register(LayerScaleBlockClassAttn)
def row_with_itself(block: Any, token: Tensor, tokens: Tensor) -> Tensor:
    """Of CaiT, where the token attends to itself too."""
    return attention_weights(block.attn, block.norm1(torch.cat([token, tokens], dim=1)))[:, :, 0, 1:]


@class_row.register(ClassBlock)
def row_without_itself(block: Any, token: Tensor, tokens: Tensor) -> Tensor:
    """Of SL-CaiT."""
    return attention_weights(block.attn, block.norm1(token), tokens)[:, :, 0]


@attention_maps.register(Swin)
@torch.no_grad()
def of_swin(network: Swin, images: Tensor) -> Tensor:
    """Swin and SL-Swin."""
    stages: Any = network.layers
    tokens = network.patch_embed(images)
    for stage in stages[:-1]:
        tokens = stage(tokens)
    tokens = stages[-1].downsample(tokens)
    *earlier, last = stages[-1].blocks
    for block in earlier:
        tokens = block(tokens)
    return of_window_block(last, last.norm1(tokens))


def of_window_block(block: WindowBlock, tokens: Float[Tensor, "B h w D"]) -> Float[Tensor, "B heads h w"]:
    """The mean over the queries of each window, put together, over the number of windows."""
    grid = (tokens.shape[1], tokens.shape[2])
    window, shift = fit_window(grid, block.window_size, block.shift_size, block.fit)
    rows, columns = padding(grid, window)
    moved = nn.functional.pad(tokens, (0, 0, 0, columns, 0, rows)).roll((-shift[0], -shift[1]), (1, 2))
    masked = needs_mask(grid, window, shift, block.fit)
    mask = window_mask(grid, window, shift, block.fit, tokens.device) if masked else None
    layer: Any = block.attn
    taken = of_windows(layer, window_partition(moved, window).flatten(1, 2), window, mask).mean(2)
    sides = (grid[0] + rows, grid[1] + columns)
    joined = window_reverse(taken.transpose(1, 2).unflatten(1, window), window, *sides).roll(shift, (1, 2))
    number = sides[0] * sides[1] / (window[0] * window[1])
    return joined[:, : grid[0], : grid[1]].permute(0, 3, 1, 2) / number


@singledispatch
@torch.no_grad()
def rollout(network: nn.Module, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 1 h w"] | None:
    """What the class token (or the mean of all) takes of each patch through all blocks of a ViT; None of others.

    The product over blocks of (A + I) / 2, A the mean over heads; equation (1) of the paper.
    """
    return None


@rollout.register(VisionTransformer)
@torch.no_grad()
def rollout_of_vit(network: VisionTransformer, images: Tensor) -> Tensor:
    """ViT, SL-ViT and timm's."""
    tokens, whole = embedded(network, images), None
    for block in cast(Iterable[Any], network.blocks):
        taken = attention_weights(block.attn, block.norm1(tokens)).mean(1)
        taken = (taken + torch.eye(taken.shape[-1], device=taken.device)) / 2
        whole, tokens = (taken if whole is None else taken @ whole), block(tokens)
    assert whole is not None, "a ViT has blocks"
    return on_grid(network, images, whole[:, None])


def embedded(network: VisionTransformer, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B N D"]:
    """The tokens that the first block receives."""
    return network.norm_pre(network._pos_embed(network.patch_embed(images)))


def on_grid(network: VisionTransformer, images: Tensor, weights: Weights) -> Float[Tensor, "B heads h w"]:
    """The class token's row, or the mean over queries where there is none, without extra tokens' columns."""
    grid = [side // patch for side, patch in zip(images.shape[2:], network.patch_embed.patch_size, strict=True)]
    row = weights[:, :, 0] if network.has_class_token else weights.mean(2)
    return row[:, :, network.num_prefix_tokens :].unflatten(2, grid)
