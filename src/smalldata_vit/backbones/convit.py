"""ConViT, a ViT whose first blocks attend by gated position too, on timm's class and with timm's names of weights.

d'Ascoli et al., ConViT: Improving Vision Transformers with Soft Convolutional Inductive Biases, ICML 2021,
arXiv:2103.10697.
"""

from functools import cache, partial
from typing import Any

import torch
from jaxtyping import Float
from timm.models import convit as timm_convit
from torch import Tensor, nn

from smalldata_vit.backbones.drop_path import replace_drop_paths
from smalldata_vit.backbones.intermediates import Indices, Taps, as_tokens, feature_info, through
from smalldata_vit.backbones.positions import Positions, resized
from smalldata_vit.backbones.sizes import check_sides
from smalldata_vit.backbones.vit import Attention, attend


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def displacements(grid: tuple[int, int], device: torch.device) -> Float[Tensor, "N N 3"]:
    """From each token to each other: columns, rows, and the sum of their squares, in patches."""
    return _displacements(grid, device)


# One tensor a size and device, apart from its caller, as compilation looks past a cache. Outside inference mode,
# because a tensor made in it could not be used in training again.
@cache
def _displacements(grid: tuple[int, int], device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        row, column = torch.meshgrid(*(torch.arange(n, dtype=torch.float32, device="cpu") for n in grid), indexing="ij")
        rows, columns = (place.flatten()[None, :] - place.flatten()[:, None] for place in (row, column))
        return torch.stack([columns, rows, columns**2 + rows**2], dim=-1).to(device)


def gated_attention(layer: Any, tokens: Float[Tensor, "B N D"], grid: tuple[int, int]) -> Float[Tensor, "B N D"]:
    """((1 - σ(λ)) softmax(Q Kᵀ / √d) + σ(λ) softmax(v·r)) V of eq. (7), a gate λ and a direction v a head.

    The authors also divide by the row sums, which are 1. The positional scores are the same for all images.
    """
    query, key = _heads(layer.qk(tokens), 2, layer.num_heads).unbind(0)
    (value,) = _heads(layer.v(tokens), 1, layer.num_heads).unbind(0)
    content = ((query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)).softmax(dim=-1)
    position = layer.pos_proj(displacements(grid, tokens.device)).permute(2, 0, 1).softmax(dim=-1)
    gate = layer.gating_param.sigmoid()[:, None, None]
    mixed = ((1 - gate) * content + gate * position).to(value.dtype) @ value
    return layer.proj(mixed.transpose(1, 2).flatten(2))


def plain_attention(layer: Any, tokens: Float[Tensor, "B N D"], form: Attention) -> Float[Tensor, "B N D"]:
    """The attention of a ViT."""
    query, key, value = _heads(layer.qkv(tokens), 3, layer.num_heads).unbind(0)
    return layer.proj(attend(query, key, value, form).transpose(1, 2).flatten(2))


def _heads(joint: Float[Tensor, "B N joint"], parts: int, heads: int) -> Float[Tensor, "parts B heads N d"]:
    return joint.unflatten(2, (parts, heads, -1)).permute(2, 0, 3, 1, 4)


class ConViT(timm_convit.ConVit):
    """A ConViT without a head, for images that patches tile: features are the class token after the final norm.

    The class token joins the patches behind the gated blocks. Against timm's: other image sizes, through the resized
    table; attention of the last blocks in either form; nothing is kept in a buffer that changes its shape in forward.
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
        gated_blocks: int,
        locality_strength: float,
        drop_path_rate: float,
        positions: Positions,
        attention: Attention,
    ) -> None:
        super().__init__(
            img_size=image_size,
            patch_size=patch_size,
            num_classes=0,
            embed_dim=width // heads,
            depth=depth,
            num_heads=heads,
            mlp_ratio=mlp_ratio,
            local_up_to_layer=gated_blocks,
            locality_strength=locality_strength,
            drop_path_rate=drop_path_rate,
        )
        self.patch_size, self.positions, self.attention = patch_size, positions, attention
        self.grad_checkpointing = False
        self.feature_info = feature_info([width], [depth], [patch_size], "blocks.{block}")

    def forward_features(self, x: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B N D"]:
        """All tokens after the final norm."""
        return self._run(x, Taps(len(self.blocks), ()))

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

    def _run(self, images: Float[Tensor, "B 3 H W"], taps: Taps) -> Float[Tensor, "B N D"]:
        check_sides(images.shape[-2], images.shape[-1], self.patch_size)
        embedding: Any = self.patch_embed
        maps = embedding.proj(images)
        grid = (maps.shape[-2], maps.shape[-1])
        tokens = as_tokens(maps) + resized(self.pos_embed, embedding.grid_size, grid, self.positions)
        for number, block in enumerate(self.blocks):
            prefix = int(number >= self.local_up_to_layer)
            if number == self.local_up_to_layer:
                tokens = torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], dim=1)
            tokens = through(self.grad_checkpointing, partial(self._block, block), tokens, grid)
            if taps.offer(number, tokens, grid, prefix, self.norm):
                break
        return self.norm(tokens)

    def _block(self, block: Any, tokens: Float[Tensor, "B N D"], grid: tuple[int, int]) -> Float[Tensor, "B N D"]:
        normed = block.norm1(tokens)
        if block.use_gpsa:
            attended = gated_attention(block.attn, normed, grid)
        else:
            attended = plain_attention(block.attn, normed, self.attention)
        tokens = tokens + block.drop_path(attended)
        return tokens + block.drop_path(block.mlp(block.norm2(tokens)))

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Whether the blocks' activations are made again in the backward pass instead of being kept."""
        self.grad_checkpointing = enable


def convit(
    image_size: int,
    patch_size: int,
    width: int,
    depth: int,
    heads: int,
    mlp_ratio: float,
    gated_blocks: int,
    drop_path_rate: float,
    locality_strength: float = 1.0,
    positions: Positions = "size",
    attention: Attention = "auto",
) -> ConViT:
    """A freshly initialised ConViT: images (B, 3, H, W) to features (B, width).

    `gated_blocks`: how many of the `depth` attend by position too; fewer than all, as the class token comes behind
    them. `locality_strength`: α of eq. (9), the sharpness with which they begin as convolutions. `drop_path_rate`: of
    the last block, rising linearly from 0. `positions`: for images of other sizes than `image_size` (pixels).
    """
    check_sides(image_size, image_size, patch_size)
    if width % heads:
        raise ValueError(f"A width of {width} cannot be shared by {heads} heads: it has to be a multiple of them.")
    if not 0 <= gated_blocks < depth:
        raise ValueError(f"{gated_blocks} of {depth} blocks cannot be gated: at least the last has to be plain.")
    network = ConViT(
        image_size, patch_size, width, depth, heads, mlp_ratio, gated_blocks, locality_strength, drop_path_rate,
        positions, attention,
    )  # fmt: skip
    replace_drop_paths(network)
    return network
