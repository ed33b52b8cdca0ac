"""The first Pyramid Vision Transformer: four stages of patches, with learned positions and spatial reduction.

Wang et al., Pyramid Vision Transformer, ICCV 2021, arXiv:2102.12122. In Li et al. (ECCV 2022, arXiv:2207.10026) PVT-Ti.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from timm.layers.mlp import Mlp
from torch import Tensor, nn

from smalldata_vit.backbones import drop_path
from smalldata_vit.backbones.intermediates import Indices, Taps, as_map, as_tokens, feature_info, through
from smalldata_vit.backbones.linear_weights import draw, draw_linear
from smalldata_vit.backbones.positions import Positions, resized
from smalldata_vit.backbones.spatial_reduction import check_reductions, reduced_attention
from smalldata_vit.backbones.vit import Attention

PATCHES = (4, 2, 2, 2)
"""Side of each stage's patches, in pixels and in tokens of the stage before."""
EPS = 1e-6


class ReducedAttention(nn.Module):
    """Weights of attention to a grid that is shrunk by `reduction`."""

    def __init__(self, width: int, heads: int, reduction: int, attention: Attention) -> None:
        super().__init__()
        self.num_heads, self.attention = heads, attention
        self.q, self.kv, self.proj = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)
        self.sr = nn.Conv2d(width, width, reduction, stride=reduction) if reduction > 1 else None
        self.norm = nn.LayerNorm(width, eps=EPS) if reduction > 1 else None

    def forward(self, tokens: Float[Tensor, "B N D"], grid: tuple[int, int]) -> Float[Tensor, "B N D"]:
        """Attended tokens."""
        return reduced_attention(self, tokens, grid, self.attention)


class Block(nn.Module):
    """Attention and MLP with residuals, norms before them."""

    def __init__(
        self, width: int, heads: int, mlp_ratio: float, reduction: int, drop_prob: float, attention: Attention
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=EPS), nn.LayerNorm(width, eps=EPS)
        self.attn = ReducedAttention(width, heads, reduction, attention)
        self.mlp = Mlp(width, int(width * mlp_ratio))
        self.drop_path1, self.drop_path2 = drop_path.DropPath(drop_prob), drop_path.DropPath(drop_prob)

    def forward(self, tokens: Float[Tensor, "B N D"], grid: tuple[int, int]) -> Float[Tensor, "B N D"]:
        """The tokens after this block."""
        tokens = tokens + self.drop_path1(self.attn(self.norm1(tokens), grid))
        return tokens + self.drop_path2(self.mlp(self.norm2(tokens)))


class Stage(nn.Module):
    """Patches of the grid before, their positions, and blocks; the last stage puts a class token first."""

    def __init__(
        self, channels: int, patch_size: int, width: int, side: int, class_token: bool, positions: Positions
    ) -> None:
        super().__init__()
        self.own, self.positions = (side, side), positions
        self.proj = nn.Conv2d(channels, width, patch_size, stride=patch_size)
        self.patch_norm = nn.LayerNorm(width, eps=EPS)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width)) if class_token else None
        self.pos_embed = nn.Parameter(torch.zeros(1, class_token + side * side, width))
        self.blocks = nn.ModuleList()

    def forward(self, maps: Float[Tensor, "B C h w"]) -> tuple[Float[Tensor, "B N D"], tuple[int, int]]:
        """Tokens with positions, and their (rows, columns); the blocks are left to the network."""
        maps = self.proj(maps)
        grid, tokens = (maps.shape[-2], maps.shape[-1]), self.patch_norm(as_tokens(maps))
        if self.cls_token is None:
            return tokens + resized(self.pos_embed, self.own, grid, self.positions), grid
        tokens = tokens + resized(self.pos_embed[:, 1:], self.own, grid, self.positions)
        first = (self.cls_token + self.pos_embed[:, :1]).expand(len(tokens), -1, -1)
        return torch.cat([first, tokens], dim=1), grid


class PVT(nn.Module):
    """A PVT without a head: features are the last stage's class token after the final norm."""

    def __init__(self, stages: list[Stage], widths: Sequence[int], reductions: Sequence[int]) -> None:
        super().__init__()
        self.stages, self.reductions, self.num_features = nn.ModuleList(stages), list(reductions), widths[-1]
        self.grad_checkpointing = False
        self.norm = nn.LayerNorm(widths[-1], eps=EPS)
        depths = [len(stage.blocks) for stage in stages]
        self.feature_info = feature_info(widths, depths, [4, 8, 16, 32], "stages.{stage}.blocks.{block}")

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D"]:
        """Features of images of at least 32 px; borders that patches of 32 do not cover are not seen."""
        return self.forward_head(self._run(images, Taps(len(self.feature_info), ())))

    def forward_head(self, tokens: Float[Tensor, "B N D"], pre_logits: bool = True) -> Float[Tensor, "B D"]:
        """The features among the final tokens that `forward_intermediates` gives."""
        return tokens[:, 0]

    def forward_intermediates(
        self,
        x: Float[Tensor, "B 3 H W"],
        indices: Indices = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Outputs of blocks, counted over all stages, and before them the final tokens unless they alone are wanted.

        `norm`: only the last stage has one.
        """
        taps = Taps(len(self.feature_info), indices, norm, output_fmt, stop_early and intermediates_only)
        final = self._run(x, taps)
        return taps.maps if intermediates_only else (final, taps.maps)

    def _run(self, images: Float[Tensor, "B 3 H W"], taps: Taps) -> Float[Tensor, "B N D"]:
        check_reductions(images.shape[-2], images.shape[-1], self.reductions, overlapping=False)
        maps, number, last = images, 0, self.stages[-1]
        stage: Any
        for stage in self.stages:
            tokens, grid = stage(maps)
            for block in stage.blocks:
                tokens = through(self.grad_checkpointing, block, tokens, grid)
                if taps.offer(number, tokens, grid, int(stage is last), self.norm if stage is last else None):
                    return tokens
                number += 1
            if stage is not last:
                maps = as_map(tokens, grid)
        return self.norm(tokens)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Whether the blocks' activations are made again in the backward pass instead of being kept."""
        self.grad_checkpointing = enable

    def no_weight_decay(self) -> set[str]:
        """Names that the recipes keep out of weight decay."""
        return {name for name, _ in self.named_parameters() if name.endswith(("pos_embed", "cls_token"))}

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """timm's table of layers, for learning rates that fall from layer to layer."""
        first = (r"^stages\.(\d+)\.(?:proj|patch_norm|cls_token|pos_embed)", (0,))
        return {"blocks": [first, (r"^stages\.(\d+)\.blocks\.(\d+)", None), (r"^norm", (99999,))]}


def pvt_v1(
    image_size: int,
    widths: Sequence[int],
    depths: Sequence[int],
    heads: Sequence[int],
    mlp_ratios: Sequence[float],
    reductions: Sequence[int],
    drop_path_rate: float,
    positions: Positions = "size",
    drop_path_shape: drop_path.Shape = "linear",
    attention: Attention = "auto",
) -> PVT:
    """A freshly initialised PVT: images (B, 3, H, W) to features (B, widths[-1]).

    All lists have one entry a stage, four in all. `reductions`: tokens of a side that share a key. `positions`: for
    images of other sizes than `image_size` (pixels, at least 32). Departure: the authors resample bilinearly there.
    """
    check_reductions(image_size, image_size, reductions, overlapping=False)
    rates = iter(drop_path.rates(drop_path_rate, sum(depths), drop_path_shape))
    stages, side = [], image_size
    for number, patch_size in enumerate(PATCHES):
        side //= patch_size
        channels, last = 3 if number == 0 else widths[number - 1], number == len(PATCHES) - 1
        stage = Stage(channels, patch_size, widths[number], side, last, positions)
        for _ in range(depths[number]):
            shape = widths[number], heads[number], mlp_ratios[number], reductions[number]
            stage.blocks.append(Block(*shape, next(rates), attention))
        stages.append(stage)
    network = PVT(stages, widths, reductions)
    draw_linear(network, "truncated_normal")
    for name, parameter in network.named_parameters():
        if name.endswith(("pos_embed", "cls_token")):
            draw(parameter, "truncated_normal")
    return network
