"""PiT, a ViT whose grid is halved twice by pooling, on timm's class and with timm's names of weights.

Heo et al., Rethinking Spatial Dimensions of Vision Transformers, ICCV 2021, arXiv:2103.16302.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from jaxtyping import Float
from timm.models import pit as timm_pit
from torch import Tensor, nn

from smalldata_vit.backbones.intermediates import Indices, Taps, as_map, as_tokens, feature_info, through
from smalldata_vit.backbones.positions import Positions, resized
from smalldata_vit.backbones.vit import Attention
from smalldata_vit.backbones.vit_block import vit_block


class PiT(timm_pit.PoolingVisionTransformer):
    """A PiT without a head: features are the class token after the final norm.

    Against timm's: it sees every image that holds a patch, through the resized table; its blocks, not its three
    stages, can be asked for; attention in either form.
    """

    pos_embed: nn.Parameter
    cls_token: nn.Parameter

    def __init__(
        self,
        image_size: int,
        patch_size: int,
        stride: int,
        head_width: int,
        depths: Sequence[int],
        heads: Sequence[int],
        mlp_ratio: float,
        positions: Positions,
    ) -> None:
        super().__init__(
            img_size=image_size,
            patch_size=patch_size,
            stride=stride,
            base_dims=[head_width] * len(depths),
            depth=tuple(depths),
            heads=tuple(heads),
            mlp_ratio=mlp_ratio,
            num_classes=0,
        )
        self.patch_size, self.positions, self.grad_checkpointing = patch_size, positions, False
        widths = [head_width * number for number in heads]
        strides = [stride * 2**stage for stage in range(len(depths))]
        self.feature_info = feature_info(widths, depths, strides, "transformers.{stage}.blocks.{block}")

    def forward_features(self, x: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 1 D"]:
        """The class token after the final norm."""
        return self._run(x, Taps(len(self.feature_info), ()))

    def forward_intermediates(
        self,
        x: Float[Tensor, "B 3 H W"],
        indices: Indices = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Outputs of blocks, counted over all stages, and before them the class token unless they alone are wanted.

        `norm`: only the last stage has one.
        """
        taps = Taps(len(self.feature_info), indices, norm, output_fmt, stop_early and intermediates_only)
        final = self._run(x, taps)
        return taps.maps if intermediates_only else (final, taps.maps)

    def _run(self, images: Float[Tensor, "B 3 H W"], taps: Taps) -> Float[Tensor, "B 1 D"]:
        maps, number = self._embed(images), 0
        token = self.cls_token.expand(len(images), -1, -1)
        stage: Any
        for stage in self.transformers:
            if stage.pool is not None:
                maps, token = stage.pool(maps, token)
            grid = (maps.shape[-2], maps.shape[-1])
            tokens = torch.cat([token, as_tokens(maps)], dim=1)
            norm = self.norm if stage is self.transformers[-1] else None
            for block in stage.blocks:
                tokens = through(self.grad_checkpointing, block, tokens)
                if taps.offer(number, tokens, grid, 1, norm):
                    return tokens[:, :1]
                number += 1
            token, maps = tokens[:, :1], as_map(tokens[:, 1:], grid)
        return self.norm(token)

    def _embed(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D h w"]:
        if min(images.shape[-2:]) < self.patch_size:
            raise ValueError(
                f"Images of {images.shape[-2]} x {images.shape[-1]} pixels hold no patch of {self.patch_size}: "
                f"sides of at least {self.patch_size} px are needed."
            )
        embedding: Any = self.patch_embed
        maps = embedding(images)
        grid = (maps.shape[-2], maps.shape[-1])
        table = resized(as_tokens(self.pos_embed), embedding.grid_size, grid, self.positions)
        return maps + as_map(table, grid)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Whether the blocks' activations are made again in the backward pass instead of being kept."""
        self.grad_checkpointing = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """timm's table of layers, which timm's own class lacks, for learning rates that fall from layer to layer."""
        blocks = [
            (r"^transformers\.(\d+)\.pool", (0,)),
            (r"^transformers\.(\d+)\.blocks\.(\d+)", None),
            (r"^norm", (99999,)),
        ]
        return {"stem": r"^cls_token|pos_embed|patch_embed", "blocks": blocks}


def pit(
    image_size: int,
    patch_size: int,
    stride: int,
    head_width: int,
    depths: Sequence[int],
    heads: Sequence[int],
    mlp_ratio: float,
    drop_path_rate: float,
    positions: Positions = "size",
    attention: Attention = "auto",
) -> PiT:
    """A freshly initialised PiT: images (B, 3, H, W) to features (B, head_width · heads[-1]).

    `patch_size`, `stride` (of the patches), `image_size`: pixels. `head_width`: of each of a stage's `heads`.
    `drop_path_rate`: block i of n has i/n of it, as in the authors' code. `positions`: for images of other sizes.
    Linear weights begin as torch draws them, table and class token truncated normal with 0.02: the authors' start.
    """
    if image_size < patch_size:
        raise ValueError(f"An image_size of {image_size} px holds no patch of {patch_size}: it has to be larger.")
    network = PiT(image_size, patch_size, stride, head_width, depths, heads, mlp_ratio, positions)
    share, stages = drop_path_rate / sum(depths), zip(network.transformers, heads, depths, strict=True)
    for (stage, number, depth), first in zip(stages, accumulate(depths, initial=0), strict=False):
        blocks = (
            vit_block(head_width * number, number, mlp_ratio, True, 1e-6, share * place, attention)
            for place in range(first, first + depth)
        )
        stage.blocks = nn.Sequential(*blocks)
    return network
