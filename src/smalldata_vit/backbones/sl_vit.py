"""SL-ViT: a ViT with shifted patches (SPT) and locality self-attention (LSA), and the same ViT without them.

Lee, Lee and Song, Vision Transformer for Small-Size Datasets, 2021, arXiv:2112.13492.
"""

from collections.abc import Iterable
from functools import partial
from typing import Any, cast

from jaxtyping import Float
from timm.layers.mlp import Mlp
from torch import Tensor, nn

from smalldata_vit.backbones import drop_path
from smalldata_vit.backbones.initialisation import Init, initialise
from smalldata_vit.backbones.locality_attention import LocalityAttention
from smalldata_vit.backbones.positions import Positions
from smalldata_vit.backbones.shifted_patches import ShiftedPatches
from smalldata_vit.backbones.vit import Attention, ViT, vit

EPS = 1e-5
"""Of all LayerNorms: torch's own, which their code leaves as it is."""


class LocalityBlock(nn.Module):
    """A ViT's block with LSA; the names of its weights are timm's."""

    def __init__(self, width: int, heads: int, mlp_ratio: float, drop_path_rate: float, attention: Attention) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=EPS), nn.LayerNorm(width, eps=EPS)
        self.attn = LocalityAttention(width, heads, attention)
        self.mlp = Mlp(width, int(width * mlp_ratio))
        self.drop_path1, self.drop_path2 = drop_path.DropPath(drop_path_rate), drop_path.DropPath(drop_path_rate)

    def forward(self, tokens: Float[Tensor, "B N D"], queries: int | None = None) -> Float[Tensor, "B Q D"]:
        """All tokens, or the first `queries` of them, after attention and MLP."""
        own = tokens if queries is None else tokens[:, :queries]
        own = own + self.drop_path1(self.attn(self.norm1(tokens), own.shape[1]))
        return own + self.drop_path2(self.mlp(self.norm2(own)))


def sl_vit(
    image_size: int,
    patch_size: int,
    width: int,
    depth: int,
    heads: int,
    mlp_ratio: float,
    drop_path_rate: float,
    shifted_patches: bool,
    locality_attention: bool,
    init: Init = "xavier",
    positions: Positions = "scale_factor",
    attention: Attention = "auto",
) -> ViT:
    """A freshly initialised ViT of Lee et al.: images (B, 3, H, W) to features (B, width).

    Queries, keys and values have no bias; every block drops its paths with `drop_path_rate`. `shifted_patches` and
    `locality_attention` off give the plain ViT that the paper compares with.
    """
    network = vit(
        image_size, patch_size, width, depth, heads, mlp_ratio, drop_path_rate, positions=positions,
        drop_path_shape="constant", attention=attention,
    )  # fmt: skip
    if shifted_patches:
        network.patch_embed = ShiftedPatches(image_size, patch_size, 3, width)
    if locality_attention:
        block = partial(LocalityBlock, width, heads, mlp_ratio, drop_path_rate, attention)
        network.blocks = nn.Sequential(*(block() for _ in range(depth)))
    else:
        for plain in cast(Iterable[Any], network.blocks):
            plain.attn.qkv = nn.Linear(width, 3 * width, bias=False)
    for module in network.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = EPS
    initialise(network, init)
    return network
