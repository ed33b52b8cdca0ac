"""Vision Transformers as the recipes need them, on timm's class and with timm's names of weights.

Dosovitskiy et al., An Image is Worth 16x16 Words, ICLR 2021, arXiv:2010.11929; the small form is that of Gani, Naseer
and Yaqub, How to Train Vision Transformer on Small-scale Datasets?, BMVC 2022, arXiv:2210.07240.
"""

from functools import partial
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from timm.layers.patch_embed import PatchEmbed
from timm.models import vision_transformer
from torch import Tensor, nn

from smalldata_vit.backbones import drop_path
from smalldata_vit.backbones.initialisation import Init, initialise
from smalldata_vit.backbones.positions import Positions, resized
from smalldata_vit.backbones.recomputing import recomputed
from smalldata_vit.backbones.sizes import check_sides

Attention = Literal["auto", "explicit", "sdpa"]
"""`explicit` writes the softmax out, `sdpa` calls torch's fused kernel; `auto` is explicit in bf16 on a CPU, where the
fused kernel is several times slower, and fused elsewhere."""


def attend(
    query: Float[Tensor, "B heads Q d"],
    key: Float[Tensor, "B heads N d"],
    value: Float[Tensor, "B heads N d"],
    form: Attention,
) -> Float[Tensor, "B heads Q d"]:
    """softmax(Q Kᵀ / √d) V of eq. (7) of the ViT paper, in one of two forms that differ by rounding."""
    slow = query.device.type == "cpu" and query.dtype == torch.bfloat16
    if form == "explicit" or (form == "auto" and slow):
        similarity = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
        return similarity.softmax(dim=-1) @ value
    return F.scaled_dot_product_attention(query, key, value)


class Patches(PatchEmbed):
    """timm's patch embedding, which says which sizes would fit when one does not."""

    def forward(self, x: Float[Tensor, "B channels H W"]) -> Float[Tensor, "B h w D"]:
        """Patch vectors on their grid."""
        check_sides(x.shape[-2], x.shape[-1], self.patch_size[0])
        return super().forward(x)


class Block(vision_transformer.Block):
    """timm's block with a choice of attention, and which can be asked for its first tokens only."""

    attention: Attention = "auto"

    def forward(  # type: ignore[override]  # timm's masks have no use here
        self, tokens: Float[Tensor, "B N D"], queries: int | None = None
    ) -> Float[Tensor, "B Q D"]:
        """All tokens, or the first `queries` of them: the same numbers with less work, as the others are not needed."""
        own = tokens if queries is None else tokens[:, :queries]
        own = own + self.drop_path1(self.ls1(self._attention(self.norm1(tokens), own.shape[1])))
        return own + self.drop_path2(self.ls2(self.mlp(self.norm2(own))))

    def _attention(self, tokens: Float[Tensor, "B N D"], queries: int) -> Float[Tensor, "B Q D"]:
        layer: Any = self.attn
        images, number, width = tokens.shape
        if queries == number:
            joint = layer.qkv(tokens).reshape(images, number, 3, layer.num_heads, layer.head_dim)
            query, key, value = joint.permute(2, 0, 3, 1, 4).unbind(0)
        else:
            weight, bias = layer.qkv.weight, layer.qkv.bias
            own = F.linear(tokens[:, :queries], weight[:width], None if bias is None else bias[:width])
            query = own.reshape(images, queries, layer.num_heads, layer.head_dim).transpose(1, 2)
            rest = F.linear(tokens, weight[width:], None if bias is None else bias[width:])
            rest = rest.reshape(images, number, 2, layer.num_heads, layer.head_dim)
            key, value = rest.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = attend(query, key, value, self.attention)
        return layer.proj(mixed.transpose(1, 2).reshape(images, queries, width))


class ViT(vision_transformer.VisionTransformer):
    """A ViT without a head whose position table fits every input that patches tile.

    `pooling`: the class token, or the mean of the tokens of a network without class token; both after the final norm.
    `positions`: the rule for other input sizes than `image_size`. `short_last_block`: with the class token, compute
    the last block for that token only.
    """

    pos_embed: nn.Parameter
    cls_token: nn.Parameter

    def __init__(
        self,
        image_size: int,
        patch_size: int,
        width: int,
        depth: int,
        heads: int,
        mlp_ratio: float,
        pooling: Literal["class_token", "mean"],
        positions: Positions,
        attention: Attention,
        short_last_block: bool,
    ) -> None:
        check_sides(image_size, image_size, patch_size)
        super().__init__(
            img_size=image_size,
            patch_size=patch_size,
            num_classes=0,
            global_pool="token" if pooling == "class_token" else "avg",
            embed_dim=width,
            depth=depth,
            num_heads=heads,
            mlp_ratio=mlp_ratio,
            class_token=pooling == "class_token",
            fc_norm=False,
            weight_init="skip",
            embed_layer=partial(Patches, strict_img_size=False, output_fmt="NHWC"),
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            block_fn=Block,
        )
        self.positions, self.short = positions, short_last_block and pooling == "class_token"
        for block in self.blocks:
            cast(Block, block).attention = attention

    def _pos_embed(self, x: Float[Tensor, "B h w D"]) -> Float[Tensor, "B N D"]:
        own, prefix = self.num_prefix_tokens, self.pos_embed[:, : self.num_prefix_tokens]
        grid = (x.shape[1], x.shape[2])
        table = resized(self.pos_embed[:, own:], self.patch_embed.grid_size, grid, self.positions)
        tokens = x.flatten(1, 2) + table
        if own == 0:
            return tokens
        return torch.cat([(self.cls_token + prefix).expand(len(tokens), -1, -1), tokens], dim=1)

    def forward(self, x: Float[Tensor, "B channels H W"]) -> Float[Tensor, "B D"]:  # type: ignore[override]
        """Features of images of any size that is a multiple of the patch size; ValueError for others."""
        tokens = self._pos_embed(self.patch_embed(x))
        for block in self.blocks[:-1]:
            tokens = self._through(cast(Block, block), tokens)
        tokens = self.norm(self._through(cast(Block, self.blocks[-1]), tokens, 1 if self.short else None))
        return tokens[:, 0] if self.short else self.forward_head(tokens)

    def _through(self, block: nn.Module, tokens: Float[Tensor, "B N D"], queries: int | None = None) -> Tensor:
        if self.grad_checkpointing and torch.is_grad_enabled():
            return recomputed(block, tokens, queries)
        return block(tokens, queries)


def vit(
    image_size: int,
    patch_size: int,
    width: int,
    depth: int,
    heads: int,
    mlp_ratio: float,
    drop_path_rate: float,
    pooling: Literal["class_token", "mean"] = "class_token",
    init: Init = "truncated_normal",
    positions: Positions = "scale_factor",
    drop_path_shape: drop_path.Shape = "linear",
    attention: Attention = "auto",
    short_last_block: bool = True,
) -> ViT:
    """A freshly initialised ViT: images (B, 3, H, W) to features (B, width).

    `image_size`, `patch_size`: pixels, the first a multiple of the second, and `heads` a divisor of `width`; else
    ValueError. `drop_path_rate`: of the last block, and of the others too if `drop_path_shape` is constant.
    """
    if width % heads:
        raise ValueError(f"A width of {width} cannot be shared by {heads} heads: it has to be a multiple of them.")
    network = ViT(
        image_size, patch_size, width, depth, heads, mlp_ratio, pooling, positions, attention, short_last_block
    )
    for block, rate in zip(network.blocks, drop_path.rates(drop_path_rate, depth, drop_path_shape), strict=True):
        block.drop_path1 = drop_path.DropPath(rate)
        block.drop_path2 = drop_path.DropPath(rate)
    initialise(network, init)
    return network
