"""SL-CaiT: a CaiT with shifted patches (SPT) and locality self-attention (LSA), and the same CaiT without them.

Lee, Lee and Song, Vision Transformer for Small-Size Datasets, 2021, arXiv:2112.13492. Their CaiT is not Touvron's:
heads are wider than their share of the width, linear maps of heads have no bias, heads talk in the class token's blocks
too, and there the class token attends to the patch tokens only, which are not normalised before.
"""

from collections.abc import Iterable
from typing import Any, Literal, cast

import torch
from jaxtyping import Float
from timm.layers.mlp import Mlp
from torch import Tensor, nn

from smalldata_vit.backbones import drop_path
from smalldata_vit.backbones.cait import CaiT, mix_heads
from smalldata_vit.backbones.initialisation import Init, initialise
from smalldata_vit.backbones.locality_attention import head_scales, own_tokens
from smalldata_vit.backbones.positions import Positions
from smalldata_vit.backbones.shifted_patches import ShiftedPatches

EPS = 1e-5
"""Of all LayerNorms: torch's own, which their code leaves as it is."""

Own = Literal["seen", "zeroed", "hidden"]
"""What a token makes of itself. `seen`: as of the others. `zeroed`: its similarity with itself is -1e-9 in each head
before heads are mixed, as in the code of Lee et al., which hides nothing. `hidden`: it does not attend to itself, as
in their paper; after the mixing, which would spread the hiding number over all heads with either sign."""


class TalkingLocality(nn.Module):
    """Attention of tokens to a context with heads mixed before and after the softmax; `locality`: learned scales."""

    def __init__(self, width: int, heads: int, head_width: int, locality: bool, own: Own) -> None:
        super().__init__()
        self.heads, self.own, self.scale = heads, own, head_width**-0.5
        self.q = nn.Linear(width, heads * head_width, bias=False)
        self.kv = nn.Linear(width, 2 * heads * head_width, bias=False)
        self.mix_before, self.mix_after = (nn.Parameter(torch.randn(heads, heads)) for _ in range(2))
        self.proj = nn.Linear(heads * head_width, width)
        self.head_scale = head_scales(heads, head_width) if locality else None

    def forward(
        self, tokens: Float[Tensor, "B Q D"], context: Float[Tensor, "B N D"] | None = None
    ) -> Float[Tensor, "B Q D"]:
        """The mixtures that the tokens take of the context, or of themselves."""
        query = self.q(tokens).unflatten(2, (self.heads, -1)).transpose(1, 2)
        joint = self.kv(tokens if context is None else context).unflatten(2, (2, self.heads, -1))
        key, value = joint.permute(2, 0, 3, 1, 4).unbind(0)
        if self.head_scale is None:
            query = query * self.scale
        else:
            query = query * self.head_scale.to(query.dtype)[:, None, None]
        similarity = query @ key.transpose(-2, -1)
        if self.own == "zeroed":
            similarity = similarity.masked_fill(own_tokens(len(tokens[0]), tokens.device) != 0, -1e-9)
        similarity = mix_heads(similarity, self.mix_before)
        if self.own == "hidden":
            similarity = similarity + own_tokens(len(tokens[0]), tokens.device)
        weights = mix_heads(similarity.softmax(dim=-1), self.mix_after)
        return self.proj((weights.to(value.dtype) @ value).transpose(1, 2).flatten(2))


class ClassBlock(nn.Module):
    """A block in which the class token attends to the patch tokens as they are."""

    def __init__(self, width: int, mlp_ratio: float, attention: TalkingLocality, drop_path_rate: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=EPS), nn.LayerNorm(width, eps=EPS)
        self.attn, self.mlp = attention, Mlp(width, int(width * mlp_ratio))
        self.drop_path = drop_path.DropPath(drop_path_rate)
        self.gamma_1, self.gamma_2 = nn.Parameter(torch.ones(width)), nn.Parameter(torch.ones(width))

    def forward(self, x: Float[Tensor, "B N D"], x_cls: Float[Tensor, "B 1 D"]) -> Float[Tensor, "B 1 D"]:
        """The class token after attention and MLP."""
        x_cls = x_cls + self.drop_path(self.gamma_1 * self.attn(self.norm1(x_cls), x))
        return x_cls + self.drop_path(self.gamma_2 * self.mlp(self.norm2(x_cls)))


def layer_scale(depth: int) -> float:
    """Where the factors on the branches of the block at this depth (from 1) begin; table 1 of the CaiT paper."""
    return 0.1 if depth <= 18 else 1e-5 if depth <= 24 else 1e-6


def sl_cait(
    image_size: int,
    patch_size: int,
    width: int,
    depth: int,
    heads: int,
    head_width: int,
    mlp_ratio: float,
    drop_path_rate: float,
    class_depth: int,
    shifted_patches: bool,
    locality_attention: bool,
    own: Literal["zeroed", "hidden"] = "zeroed",
    init: Init = "xavier",
    positions: Positions = "slice",
) -> CaiT:
    """A freshly initialised CaiT of Lee et al.: images (B, 3, H, W) to features (B, width).

    `drop_path_rate`: of every block, the class token's included. `own`: what becomes of a token's similarity with
    itself in the patch blocks with `locality_attention`; the class token has no such similarity.
    """
    network = CaiT(
        image_size, patch_size, width, depth, heads, mlp_ratio, class_depth, mlp_ratio, 1.0, EPS, positions, "auto"
    )
    if shifted_patches:
        network.patch_embed = ShiftedPatches(image_size, patch_size, 3, width)
    for block in network.blocks:
        block.attn = TalkingLocality(
            width, heads, head_width, locality_attention, own if locality_attention else "seen"
        )
        block.drop_path = drop_path.DropPath(drop_path_rate)
    network.blocks_token_only = nn.ModuleList(
        ClassBlock(
            width, mlp_ratio, TalkingLocality(width, heads, head_width, locality_attention, "seen"), drop_path_rate
        )
        for _ in range(class_depth)
    )
    for blocks in cast(Iterable[Any], (network.blocks, network.blocks_token_only)):
        for place, block in enumerate(blocks, start=1):
            nn.init.constant_(block.gamma_1, layer_scale(place))
            nn.init.constant_(block.gamma_2, layer_scale(place))
    initialise(network, init, linear_patches=True)
    return network
