"""T2T-ViT: tokens that are cut from the image in three overlapping soft splits, then a ViT.

Yuan et al., Tokens-to-Token ViT, ICCV 2021, arXiv:2101.11986, with the authors' names of weights. The recipes of Cao,
Yu and Wu (ECCV 2022, arXiv:2201.10728) and of Li et al. (ECCV 2022, arXiv:2207.10026) use it with different details.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from smalldata_vit.backbones import drop_path
from smalldata_vit.backbones.intermediates import Indices, Taps, feature_info, through
from smalldata_vit.backbones.linear_weights import LinearInit, draw, draw_linear
from smalldata_vit.backbones.performer import Performer
from smalldata_vit.backbones.sinusoid import FixedPositions, at_grid, sinusoid
from smalldata_vit.backbones.soft_split import SPLITS, TokensToToken, TokenTransformer, grids_of
from smalldata_vit.backbones.vit import Attention, Block
from smalldata_vit.backbones.vit_block import vit_block

Tokens = Literal["performer", "transformer"]
"""Attention in the token stage: T2T-ViT-N, or T2T-ViT_t-N."""


class T2TViT(nn.Module):
    """A T2T-ViT without a head, for images of any size: features are the class token after the final norm.

    The position table is a parameter that does not train. `short_last_block`: compute the last block for the class
    token only.
    """

    def __init__(
        self,
        image_size: int,
        tokens_to_token: TokensToToken,
        blocks: Sequence[Block],
        width: int,
        norm_eps: float,
        positions: FixedPositions,
        short_last_block: bool,
    ) -> None:
        super().__init__()
        self.num_features, self.positions, self.short = width, positions, short_last_block
        self.grad_checkpointing = False
        self.grid = grids_of(image_size, image_size)[-1]
        self.tokens_to_token = tokens_to_token
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(sinusoid(1 + self.grid[0] * self.grid[1], width), requires_grad=False)
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width, eps=norm_eps)
        self.feature_info = feature_info([width], [len(blocks)], [16], "blocks.{block}")

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D"]:
        """Features."""
        if not self.short:
            return self.forward_head(self._run(images, Taps(len(self.blocks), ())))
        tokens, _ = self._tokens(images)
        for block in self.blocks[:-1]:
            tokens = through(self.grad_checkpointing, block, tokens)
        return self.norm(through(self.grad_checkpointing, self.blocks[-1], tokens, 1))[:, 0]

    def forward_head(self, tokens: Float[Tensor, "B N D"], pre_logits: bool = True) -> Float[Tensor, "B D"]:
        """The features among the final tokens that `forward_intermediates` gives."""
        return tokens[:, 0]

    def forward_intermediates(
        self,
        x: Float[Tensor, "B 3 H W"],
        indices: Indices = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Outputs of blocks without the class token, and before them the final tokens unless they alone are wanted."""
        taps = Taps(len(self.blocks), indices, norm, output_fmt, stop_early and intermediates_only)
        final = self._run(x, taps)
        return taps.maps if intermediates_only else (final, taps.maps)

    def _tokens(self, images: Float[Tensor, "B 3 H W"]) -> tuple[Float[Tensor, "B N D"], tuple[int, int]]:
        tokens, grid = self.tokens_to_token(images)
        tokens = torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], dim=1)
        return tokens + at_grid(self.pos_embed, self.grid, grid, self.positions), grid

    def _run(self, images: Float[Tensor, "B 3 H W"], taps: Taps) -> Float[Tensor, "B N D"]:
        tokens, grid = self._tokens(images)
        for number, block in enumerate(self.blocks):
            tokens = through(self.grad_checkpointing, block, tokens)
            if taps.offer(number, tokens, grid, 1, self.norm):
                break
        return self.norm(tokens)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Whether the blocks' activations are made again in the backward pass instead of being kept."""
        self.grad_checkpointing = enable

    def no_weight_decay(self) -> set[str]:
        """Names that the recipes keep out of weight decay."""
        return {"cls_token", "pos_embed"}

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """timm's table of layers, for learning rates that fall from layer to layer."""
        return {
            "stem": r"^cls_token|pos_embed|tokens_to_token",
            "blocks": [(r"^blocks\.(\d+)", None), (r"^norm", (99999,))],
        }


def t2t_vit(
    image_size: int,
    width: int,
    depth: int,
    heads: int,
    mlp_ratio: float,
    drop_path_rate: float,
    tokens: Tokens,
    norm_eps: float,
    init: LinearInit,
    token_dropout: float,
    token_width: int = 64,
    positions: FixedPositions = "interpolated",
    drop_path_shape: drop_path.Shape = "linear",
    attention: Attention = "auto",
    short_last_block: bool = True,
) -> T2TViT:
    """A freshly initialised T2T-ViT: images (B, 3, H, W) to features (B, width).

    `norm_eps`: 1e-5 in Cao et al., 1e-6 in Li et al. `init`: truncated normal, and normal. `token_dropout`: of the
    performer; 0.1, and 0 (`transformer` tokens have none: 0). `positions`: for images of other sizes than
    `image_size`. ValueError where heads do not share the width, or tokens without dropout are given one.
    """
    if width % heads:
        raise ValueError(f"A width of {width} cannot be shared by {heads} heads: it has to be a multiple of them.")
    if tokens == "transformer" and token_dropout:
        raise ValueError(f"Transformer tokens have no dropout: token_dropout has to be 0, not {token_dropout}.")
    widths = [3 * SPLITS[0][0] ** 2, token_width * SPLITS[1][0] ** 2]
    stages = [
        Performer(incoming, token_width, norm_eps, token_dropout)
        if tokens == "performer"
        else TokenTransformer(incoming, token_width, norm_eps, attention)
        for incoming in widths
    ]
    rates = drop_path.rates(drop_path_rate, depth, drop_path_shape)
    blocks = [vit_block(width, heads, mlp_ratio, False, norm_eps, rate, attention) for rate in rates]
    splits = TokensToToken(stages[0], stages[1], token_width, width)
    network = T2TViT(image_size, splits, blocks, width, norm_eps, positions, short_last_block)
    draw_linear(network, init)
    draw(network.cls_token, init)
    return network
