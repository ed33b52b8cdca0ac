"""Shifted patch tokenisation (SPT): a patch sees its surroundings through four shifted copies of the image.

Lee, Lee and Song, Vision Transformer for Small-Size Datasets, 2021, arXiv:2112.13492, section 3.1.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from timm.layers.patch_embed import PatchEmbed
from torch import Tensor, nn

from smalldata_vit.backbones.sizes import check_sides


def with_diagonals(images: Float[Tensor, "B C H W"], shift: int) -> Float[Tensor, "B 5*C H W"]:
    """The images and what lies `shift` pixels to the upper left, upper right, lower left and lower right of each pixel.

    Outside the image there are zeros.
    """
    _, _, height, width = images.shape
    around = F.pad(images, (shift, shift, shift, shift))
    corners = [(0, 0), (0, 2 * shift), (2 * shift, 0), (2 * shift, 2 * shift)]
    return torch.cat([images, *(around[:, :, y : y + height, x : x + width] for y, x in corners)], dim=1)


def flat_patches(images: Float[Tensor, "B C H W"], patch_size: int) -> Float[Tensor, "B h w P"]:
    """Patches on their grid, each flattened by row, column, channel."""
    cut = images.unflatten(3, (-1, patch_size)).unflatten(2, (-1, patch_size))  # (B, C, h, rows, w, columns)
    return cut.permute(0, 2, 4, 3, 5, 1).flatten(3)


class ShiftedPatches(PatchEmbed):
    """SPT in place of a patch embedding: shifted by half a patch, flattened, normalised, projected.

    ValueError for patches of one pixel, which half a patch does not shift.
    """

    proj: nn.Module  # type: ignore[assignment]  # linear, as its input holds five images

    def __init__(self, img_size: int, patch_size: int, in_chans: int, embed_dim: int) -> None:
        super().__init__(img_size, patch_size, in_chans, embed_dim, strict_img_size=False, output_fmt="NHWC")
        if patch_size < 2:
            raise ValueError(f"Shifted patches have at least 2 pixels a side, not {patch_size}.")
        inputs = 5 * in_chans * patch_size**2
        self.norm = nn.LayerNorm(inputs)
        self.proj = nn.Linear(inputs, embed_dim)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B h w D"]:
        """Patch vectors on their grid."""
        side = self.patch_size[0]
        check_sides(x.shape[-2], x.shape[-1], side)
        return self.proj(self.norm(flat_patches(with_diagonals(x, side // 2), side)))


class ShiftedMerging(nn.Module):
    """SPT in place of Swin's patch merging: 2 x 2 tokens and their shifted copies become one of twice the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(20 * width)
        self.reduction = nn.Linear(20 * width, 2 * width)

    def forward(self, tokens: Float[Tensor, "B h w D"]) -> Float[Tensor, "B h/2 w/2 2*D"]:
        """The merged grid; ValueError if a side of the grid is odd."""
        rows, columns = tokens.shape[1:3]
        if rows % 2 or columns % 2:
            raise ValueError(
                f"Shifted merging halves both sides of a grid and cannot halve {rows} x {columns} tokens: choose an "
                f"image or view size that is a multiple of patch_size times 2 for each merging."
            )
        return self.reduction(self.norm(flat_patches(with_diagonals(tokens.permute(0, 3, 1, 2), 1), 2)))
