"""CaiT for small images, on timm's class and with timm's names of weights.

Touvron et al., Going deeper with Image Transformers, ICCV 2021, arXiv:2103.17239; the small form is that of Gani,
Naseer and Yaqub, How to Train Vision Transformer on Small-scale Datasets?, BMVC 2022, arXiv:2210.07240.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import torch
from jaxtyping import Float
from timm.layers.patch_embed import PatchEmbed
from timm.models import cait as timm_cait
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from smalldata_vit.backbones import drop_path
from smalldata_vit.backbones.initialisation import Init, initialise
from smalldata_vit.backbones.positions import Positions, resized
from smalldata_vit.backbones.recomputing import recomputed
from smalldata_vit.backbones.sizes import check_sides
from smalldata_vit.backbones.vit import Attention, Patches, attend


class TalkingHeads(timm_cait.TalkingHeadAttn):
    """timm's attention with heads mixed before and after the softmax, without moving the heads in memory."""

    def forward(self, x: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        """Tokens mixed; the softmax stands between two linear maps of heads, so that no fused kernel fits."""
        images, number, width = x.shape
        joint = self.qkv(x).reshape(images, number, 3, self.num_heads, -1)
        query, key, value = joint.permute(2, 0, 3, 1, 4).unbind(0)
        similarity = mix_heads((query * self.scale) @ key.transpose(-2, -1), self.proj_l.weight)
        weights = (similarity + self.proj_l.bias[:, None, None]).softmax(dim=-1)
        weights = mix_heads(weights, self.proj_w.weight) + self.proj_w.bias[:, None, None]
        return self.proj((weights.to(value.dtype) @ value).transpose(1, 2).reshape(images, number, width))


def mix_heads(
    matrices: Float[Tensor, "B heads Q N"], weight: Float[Tensor, "heads heads"]
) -> Float[Tensor, "B heads Q N"]:
    """New head i is the sum over j of weight[i, j] times head j."""
    return torch.einsum("ij,bjqn->biqn", weight, matrices)


class ClassAttention(timm_cait.ClassAttn):
    """timm's attention of the class token to all tokens, with a choice of form."""

    form: Attention = "auto"

    def forward(self, x: Float[Tensor, "B N D"]) -> Float[Tensor, "B 1 D"]:
        """The mixture that the first token takes."""
        query, key, value = (
            tokens.unflatten(2, (self.num_heads, -1)).transpose(1, 2)
            for tokens in (self.q(x[:, :1]), self.k(x), self.v(x))
        )
        return self.proj(attend(query, key, value, self.form).transpose(1, 2).flatten(2))


class CaiT(timm_cait.Cait):
    """A CaiT without a head whose position table fits every input that patches tile.

    `class_depth`: blocks in which only the class token moves, of their own `class_mlp_ratio`. `layer_scale`: where the
    factors on the branches begin. `positions`: the rule for other input sizes than `image_size`. `eps`: of all
    LayerNorms.
    """

    patch_embed: PatchEmbed

    def __init__(
        self,
        image_size: int,
        patch_size: int,
        width: int,
        depth: int,
        heads: int,
        mlp_ratio: float,
        class_depth: int,
        class_mlp_ratio: float,
        layer_scale: float,
        eps: float,
        positions: Positions,
        attention: Attention,
    ) -> None:
        check_sides(image_size, image_size, patch_size)
        if width % heads:
            raise ValueError(f"A width of {width} cannot be shared by {heads} heads: it has to be a multiple of them.")
        patches: Any = partial(Patches, strict_img_size=False, output_fmt="NHWC")
        norm: Any = partial(nn.LayerNorm, eps=eps)
        super().__init__(
            img_size=image_size,
            patch_size=patch_size,
            num_classes=0,
            embed_dim=width,
            depth=depth,
            num_heads=heads,
            mlp_ratio=mlp_ratio,
            patch_layer=patches,
            norm_layer=norm,
            attn_block=TalkingHeads,
            init_values=layer_scale,
            attn_block_token_only=ClassAttention,
            depth_token_only=class_depth,
            mlp_ratio_token_only=class_mlp_ratio,
        )
        self.positions = positions
        for block in self.blocks_token_only:
            cast(ClassAttention, block.attn).form = attention

    def _embed(self, x: Float[Tensor, "B channels H W"]) -> tuple[Float[Tensor, "B N D"], tuple[int, int]]:
        """Patch tokens with their positions, and the grid that they lie on."""
        patches = self.patch_embed(x)
        grid = (patches.shape[1], patches.shape[2])
        return patches.flatten(1, 2) + resized(self.pos_embed, self.patch_embed.grid_size, grid, self.positions), grid

    def _through(self, block: nn.Module, tokens: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        if self.grad_checkpointing and torch.is_grad_enabled():
            return recomputed(block, tokens)
        return block(tokens)

    def _through_blocks(self, x: Float[Tensor, "B channels H W"]) -> Float[Tensor, "B N D"]:
        tokens, _ = self._embed(x)
        for block in self.blocks:
            tokens = self._through(block, tokens)
        return tokens

    def _class_token(self, tokens: Float[Tensor, "B N D"]) -> Float[Tensor, "B 1 D"]:
        token: Tensor = self.cls_token.expand(len(tokens), -1, -1)
        for block in self.blocks_token_only:
            token = block(tokens, token)
        return token

    def forward_features(self, x: Float[Tensor, "B channels H W"]) -> Float[Tensor, "B tokens D"]:
        """Class token, then patch tokens, after the final norm."""
        tokens = self._through_blocks(x)
        return self.norm(torch.cat([self._class_token(tokens), tokens], dim=1))

    def forward(self, x: Float[Tensor, "B channels H W"]) -> Float[Tensor, "B D"]:
        """Class tokens of images of any size that is a multiple of the patch size; ValueError for others."""
        return self.norm(self._class_token(self._through_blocks(x)))[:, 0]

    def forward_intermediates(
        self,
        x: Float[Tensor, "B channels H W"],
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> Any:
        """Patch tokens after some blocks, and the final features before them, as timm's networks give them.

        `indices`: of the blocks, or how many of the last; None for all.
        """
        number = indices if indices is None or isinstance(indices, int) else list(indices)
        wanted, last = feature_take_indices(len(self.blocks), number)
        tokens, grid = self._embed(x)
        found: list[Tensor] = []
        for i, block in enumerate(self.blocks[: last + 1] if stop_early else self.blocks):
            tokens = self._through(block, tokens)
            if i in wanted:
                kept = self.norm(tokens) if norm else tokens
                found.append(kept if output_fmt == "NLC" else kept.transpose(1, 2).unflatten(2, grid).contiguous())
        if intermediates_only:
            return found
        return self.norm(torch.cat([self._class_token(tokens), tokens], dim=1)), found


def cait(
    image_size: int,
    patch_size: int,
    width: int,
    depth: int,
    heads: int,
    mlp_ratio: float,
    drop_path_rate: float,
    class_depth: int,
    class_mlp_ratio: float,
    layer_scale: float,
    positions: Positions,
    init: Init = "truncated_normal",
    drop_path_shape: drop_path.Shape = "constant",
    attention: Attention = "auto",
) -> CaiT:
    """A freshly initialised CaiT: images (B, 3, H, W) to features (B, width).

    `image_size`, `patch_size`: pixels, the first a multiple of the second, and `heads` a divisor of `width`; else
    ValueError. `drop_path_rate`: of all blocks, or of the last if `drop_path_shape` is linear; the class token's blocks
    drop nothing. `attention`: of the class token; heads that talk leave no choice.
    """
    network = CaiT(
        image_size, patch_size, width, depth, heads, mlp_ratio, class_depth, class_mlp_ratio, layer_scale, 1e-6,
        positions, attention,
    )  # fmt: skip
    for block, rate in zip(network.blocks, drop_path.rates(drop_path_rate, depth, drop_path_shape), strict=True):
        block.drop_path = drop_path.DropPath(rate)
    initialise(network, init, linear_patches=True)
    return network
