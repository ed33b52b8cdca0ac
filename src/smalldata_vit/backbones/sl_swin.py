"""SL-Swin: a Swin with shifted patches (SPT) and locality self-attention (LSA), and the same Swin without them.

Lee, Lee and Song, Vision Transformer for Small-Size Datasets, 2021, arXiv:2112.13492.
"""

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float
from timm.layers.patch_embed import PatchEmbed
from torch import Tensor, nn

from smalldata_vit.backbones import drop_path
from smalldata_vit.backbones.initialisation import Init, initialise
from smalldata_vit.backbones.positions import Positions, resized
from smalldata_vit.backbones.shifted_patches import ShiftedMerging, ShiftedPatches
from smalldata_vit.backbones.sizes import check_sides
from smalldata_vit.backbones.swin import Swin
from smalldata_vit.backbones.vit import Attention
from smalldata_vit.backbones.windows import Fit


class Positioned(nn.Module):
    """A patch embedding and a table of absolute positions, which Lee et al. add to Swin's relative ones."""

    def __init__(self, patches: PatchEmbed, width: int, positions: Positions) -> None:
        super().__init__()
        self.patches, self.positions = patches, positions
        self.pos_embed = nn.Parameter(torch.zeros(1, patches.num_patches, width))

    def no_weight_decay(self) -> set[str]:
        """The table's name, as timm's networks say it."""
        return {"pos_embed"}

    def forward(self, images: Float[Tensor, "B channels H W"]) -> Float[Tensor, "B h w D"]:
        """Patch vectors with their positions, on their grid."""
        vectors = self.patches(images)
        grid = (vectors.shape[1], vectors.shape[2])
        return vectors + resized(self.pos_embed, self.patches.grid_size, grid, self.positions).unflatten(1, grid)


def sl_swin(
    image_size: int,
    patch_size: int,
    width: int,
    depths: Sequence[int],
    heads: Sequence[int],
    windows: Sequence[int],
    mlp_ratio: float,
    drop_path_rate: float,
    fit: Fit,
    shifted_patches: bool,
    locality_attention: bool,
    init: Init = "torch",
    positions: Positions = "scale_factor",
    attention: Attention = "auto",
) -> Swin:
    """A freshly initialised Swin of Lee et al.: images (B, 3, H, W) to features (B, width · 2^(stages - 1)).

    Arguments as in `backbones.swin.swin`; drop path rises linearly to `drop_path_rate`. `shifted_patches`: in the patch
    embedding and in the merging between stages. ValueError if shifted merging would meet a grid of odd sides.
    """
    rates = drop_path.rates(drop_path_rate, sum(depths), "linear")
    network = Swin(
        image_size, patch_size, width, depths, heads, windows, mlp_ratio, rates, 1e-5, fit, attention,
        locality=locality_attention,
    )  # fmt: skip
    if shifted_patches:
        check_sides(image_size, image_size, patch_size * 2 ** (len(depths) - 1))
        network.patch_embed = ShiftedPatches(image_size, patch_size, 3, width)
        for i, stage in enumerate(network.layers[1:]):
            stage.downsample = ShiftedMerging(width * 2**i)
    network.patch_embed = Positioned(cast(PatchEmbed, network.patch_embed), width, positions)
    initialise(network, init)
    return network
