"""PVTv2 on timm's class and with timm's names of weights, whose blocks can be asked for one by one.

Wang et al., PVT v2: Improved Baselines with Pyramid Vision Transformer, CVMJ 2022, arXiv:2106.13797.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

from jaxtyping import Float
from timm.models import pvt_v2 as timm_pvt_v2
from torch import Tensor, nn

from smalldata_vit.backbones.drop_path import replace_drop_paths
from smalldata_vit.backbones.intermediates import Indices, Taps, as_map, feature_info, through
from smalldata_vit.backbones.spatial_reduction import check_reductions, reduced_attention
from smalldata_vit.backbones.vit import Attention


class PVTv2(timm_pvt_v2.PyramidVisionTransformerV2):
    """A PVTv2 without a head, for images of at least 29 px: features are the mean of the last tokens after their norm.

    timm's own `forward_intermediates` counts the four stages, after their norms; this one counts blocks, before them.
    """

    def __init__(
        self,
        widths: Sequence[int],
        depths: Sequence[int],
        heads: Sequence[int],
        mlp_ratios: Sequence[float],
        reductions: Sequence[int],
        drop_path_rate: float,
        inner_eps: float,
        attention: Attention,
    ) -> None:
        super().__init__(
            num_classes=0,
            depths=tuple(depths),
            embed_dims=tuple(widths),
            num_heads=tuple(heads),
            mlp_ratios=tuple(mlp_ratios),
            sr_ratios=tuple(reductions),
            drop_path_rate=drop_path_rate,
        )
        self.reductions, self.attention = list(reductions), attention
        self.grad_checkpointing = False
        for name, module in self.named_modules():
            if name.endswith(("patch_embed.norm", "downsample.norm", "attn.norm")):
                cast(nn.LayerNorm, module).eps = inner_eps
        self.feature_info = feature_info(widths, depths, [4, 8, 16, 32], "stages.{stage}.blocks.{block}")

    def forward_features(self, x: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D h w"]:
        """The last stage's tokens after its norm, as a map."""
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
        """Outputs of blocks, counted over all stages, and before them the final map unless they alone are wanted."""
        taps = Taps(len(self.feature_info), indices, norm, output_fmt, stop_early and intermediates_only)
        final = self._run(x, taps)
        return taps.maps if intermediates_only else (final, taps.maps)

    def _run(self, images: Float[Tensor, "B 3 H W"], taps: Taps) -> Float[Tensor, "B D h w"]:
        check_reductions(images.shape[-2], images.shape[-1], self.reductions, overlapping=True)
        maps, number = images, 0
        stage: Any
        for stage in self.stages:
            rows = self.patch_embed(maps) if stage.downsample is None else stage.downsample(maps)
            grid, tokens = (rows.shape[1], rows.shape[2]), rows.flatten(1, 2)
            for block in stage.blocks:
                tokens = through(self.grad_checkpointing, partial(self._block, block), tokens, grid)
                if taps.offer(number, tokens, grid, 0, stage.norm):
                    return as_map(tokens, grid)
                number += 1
            maps = as_map(stage.norm(tokens), grid)
        return maps

    def _block(self, block: Any, tokens: Float[Tensor, "B N D"], grid: tuple[int, int]) -> Float[Tensor, "B N D"]:
        attended = reduced_attention(block.attn, block.norm1(tokens), grid, self.attention)
        tokens = tokens + block.drop_path1(attended)
        return tokens + block.drop_path2(block.mlp(block.norm2(tokens), grid))

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Whether the blocks' activations are made again in the backward pass instead of being kept."""
        self.grad_checkpointing = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """timm's table of layers, here one a block, for learning rates that fall from layer to layer."""
        blocks = [
            (r"^stages\.(\d+)\.downsample", (0,)),
            (r"^stages\.(\d+)\.blocks\.(\d+)", None),
            (r"^stages\.(\d+)\.norm", (99999,)),
        ]
        return {"stem": r"^patch_embed", "blocks": blocks}


def pvt_v2(
    widths: Sequence[int],
    depths: Sequence[int],
    heads: Sequence[int],
    mlp_ratios: Sequence[float],
    reductions: Sequence[int],
    drop_path_rate: float,
    inner_eps: float = 1e-5,
    attention: Attention = "auto",
) -> PVTv2:
    """A freshly initialised PVTv2: images (B, 3, H, W) to features (B, widths[-1]).

    All lists have one entry a stage, four in all. `reductions`: tokens of a side that share a key. `drop_path_rate`:
    of the last block, rising linearly from 0. `inner_eps`: of the norms behind patches and reductions, where the
    authors and Cao et al. have 1e-5 and Li et al. 1e-6, as all other norms have. Weights begin as the authors' do:
    linear ones truncated normal with 0.02, convolutions normal with √(2 / fan-out).
    """
    network = PVTv2(widths, depths, heads, mlp_ratios, reductions, drop_path_rate, inner_eps, attention)
    replace_drop_paths(network)
    return network
