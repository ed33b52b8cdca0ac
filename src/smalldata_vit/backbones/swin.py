"""Swin Transformers for small images, on timm's class and with timm's names of weights.

Liu et al., Swin Transformer, ICCV 2021, arXiv:2103.14030; the small form is that of Gani, Naseer and Yaqub, How to
Train Vision Transformer on Small-scale Datasets?, BMVC 2022, arXiv:2210.07240.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, cast

from jaxtyping import Float
from timm.models import swin_transformer
from torch import Tensor, nn

from smalldata_vit.backbones import drop_path
from smalldata_vit.backbones.initialisation import Init, initialise
from smalldata_vit.backbones.sizes import check_sides, check_windows
from smalldata_vit.backbones.vit import Attention, Patches
from smalldata_vit.backbones.window_block import WindowBlock
from smalldata_vit.backbones.windows import Fit


class Swin(swin_transformer.SwinTransformer):
    """A Swin without a head, its features the mean of the last tokens, for every input that patches tile.

    `windows`: tokens a side, for each stage. `fit`: the rule for grids that are no multiple of the window. `locality`:
    LSA in place of the self-attention. `eps`: of all LayerNorms.
    """

    def __init__(
        self,
        image_size: int,
        patch_size: int,
        width: int,
        depths: Sequence[int],
        heads: Sequence[int],
        windows: Sequence[int],
        mlp_ratio: float,
        rates: Sequence[float],
        eps: float,
        fit: Fit,
        attention: Attention,
        locality: bool,
    ) -> None:
        check_sides(image_size, image_size, patch_size)
        if not len(depths) == len(heads) == len(windows):
            raise ValueError(
                f"depths={list(depths)}, heads={list(heads)} and windows={list(windows)} name one number a stage each."
            )
        for stage, number in enumerate(heads):
            if width * 2**stage % number:
                raise ValueError(
                    f"The width of {width * 2**stage} of stage {stage + 1} cannot be shared by {number} heads."
                )
        check_windows((image_size // patch_size, image_size // patch_size), windows)
        sides: Any = tuple((side, side) for side in windows)
        norm: Any = partial(nn.LayerNorm, eps=eps)
        super().__init__(
            img_size=image_size,
            patch_size=patch_size,
            num_classes=0,
            embed_dim=width,
            depths=tuple(depths),
            num_heads=tuple(heads),
            window_size=sides,
            strict_img_size=False,
            mlp_ratio=mlp_ratio,
            embed_layer=Patches,
            norm_layer=norm,
            weight_init="skip",
        )
        rate = iter(rates)
        for stage, number, window in zip(cast(Iterable[Any], self.layers), heads, windows, strict=True):
            stage.blocks = nn.Sequential(
                *(
                    WindowBlock(block, number, window, i % 2 * (window // 2), eps, next(rate), fit, attention, locality)
                    for i, block in enumerate(stage.blocks)
                )
            )

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Whether blocks make their inner activations again in the backward pass, with the same dropped paths."""
        for module in self.modules():
            if isinstance(module, WindowBlock):
                module.recompute = enable

    def forward(self, x: Float[Tensor, "B channels H W"]) -> Float[Tensor, "B D"]:
        """Features of images of any size that is a multiple of the patch size; ValueError for others."""
        return super().forward(x)


def swin(
    image_size: int,
    patch_size: int,
    width: int,
    depths: Sequence[int],
    heads: Sequence[int],
    windows: Sequence[int],
    mlp_ratio: float,
    drop_path_rate: float,
    fit: Fit,
    init: Init = "truncated_normal",
    drop_path_shape: drop_path.Shape = "linear",
    attention: Attention = "auto",
) -> Swin:
    """A freshly initialised Swin: images (B, 3, H, W) to features (B, width · 2^(stages - 1)).

    `image_size`, `patch_size`: pixels. `depths`, `heads`, `windows` (tokens a side): one number a stage; `width` is
    the first stage's and doubles from stage to stage. ValueError for an image that patches do not tile, a window
    larger than the grid of its stage, heads that do not divide the width. `drop_path_rate`: of the last block, and of
    the others too if `drop_path_shape` is constant.
    """
    rates = drop_path.rates(drop_path_rate, sum(depths), drop_path_shape)
    network = Swin(
        image_size, patch_size, width, depths, heads, windows, mlp_ratio, rates, 1e-6, fit, attention, locality=False
    )
    initialise(network, init)
    return network
