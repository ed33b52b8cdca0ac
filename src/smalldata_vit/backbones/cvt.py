"""CvT: three stages of convolutional tokens, whose attention is fed by depthwise convolutions.

Wu et al., CvT: Introducing Convolutions to Vision Transformers, ICCV 2021, arXiv:2103.15808; as Li et al. (ECCV 2022,
arXiv:2207.10026) train it.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from timm.layers.activations import QuickGELU
from timm.layers.mlp import Mlp
from torch import Tensor, nn

from smalldata_vit.backbones import drop_path
from smalldata_vit.backbones.intermediates import Indices, Taps, as_map, as_tokens, feature_info
from smalldata_vit.backbones.linear_weights import draw, draw_linear
from smalldata_vit.backbones.vit import Attention, attend

EMBEDDINGS = ((7, 4, 2), (3, 2, 1), (3, 2, 1))
"""Side, stride and padding of the convolution that makes each stage's tokens."""
EPS = 1e-5


def convolution(width: int, stride: int) -> nn.Sequential:
    """Depthwise 3 x 3 and BatchNorm."""
    conv = nn.Conv2d(width, width, 3, stride=stride, padding=1, groups=width, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(width)))


class ConvolutionalAttention(nn.Module):
    """Attention whose queries, keys and values have seen their neighbours; keys and values on half the grid.

    A class token goes round the convolutions.
    """

    def __init__(self, width: int, heads: int, attention: Attention) -> None:
        super().__init__()
        self.num_heads, self.attention = heads, attention
        self.conv_proj_q, self.conv_proj_k, self.conv_proj_v = (convolution(width, stride) for stride in (1, 2, 2))
        self.proj_q, self.proj_k, self.proj_v = (nn.Linear(width, width) for _ in range(3))
        self.proj = nn.Linear(width, width)
        self.rescale = heads**-0.5  # the authors divide by the root of the whole width, attend by that of a head

    def forward(self, tokens: Float[Tensor, "B N D"], grid: tuple[int, int], prefix: int) -> Float[Tensor, "B N D"]:
        """Attended tokens; the first `prefix` are no part of the grid."""
        first, maps = tokens[:, :prefix], as_map(tokens[:, prefix:], grid)
        query = self._heads(self.proj_q, first, self.conv_proj_q(maps)) * self.rescale
        key = self._heads(self.proj_k, first, self.conv_proj_k(maps))
        value = self._heads(self.proj_v, first, self.conv_proj_v(maps))
        mixed = attend(query, key, value, self.attention)
        return self.proj(mixed.transpose(1, 2).flatten(2))

    def _heads(
        self, linear: nn.Module, first: Float[Tensor, "B prefix D"], maps: Float[Tensor, "B D h w"]
    ) -> Float[Tensor, "B heads N d"]:
        tokens = linear(torch.cat([first, as_tokens(maps)], dim=1))
        return tokens.unflatten(2, (self.num_heads, -1)).transpose(1, 2)


class Block(nn.Module):
    """Attention and MLP with residuals, norms before them."""

    def __init__(self, width: int, heads: int, mlp_ratio: float, drop_prob: float, attention: Attention) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=EPS), nn.LayerNorm(width, eps=EPS)
        self.attn = ConvolutionalAttention(width, heads, attention)
        self.mlp = Mlp(width, int(width * mlp_ratio), act_layer=QuickGELU)
        self.drop_path1, self.drop_path2 = drop_path.DropPath(drop_prob), drop_path.DropPath(drop_prob)

    def forward(self, tokens: Float[Tensor, "B N D"], grid: tuple[int, int], prefix: int) -> Float[Tensor, "B N D"]:
        """The tokens after this block."""
        tokens = tokens + self.drop_path1(self.attn(self.norm1(tokens), grid, prefix))
        return tokens + self.drop_path2(self.mlp(self.norm2(tokens)))


class Stage(nn.Module):
    """A convolution that makes tokens, and blocks; the last stage puts a class token first."""

    def __init__(self, channels: int, width: int, embedding: tuple[int, int, int], class_token: bool) -> None:
        super().__init__()
        side, stride, padding = embedding
        self.proj = nn.Conv2d(channels, width, side, stride=stride, padding=padding)
        self.patch_norm = nn.LayerNorm(width, eps=EPS)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width)) if class_token else None
        self.blocks = nn.ModuleList()

    def forward(self, maps: Float[Tensor, "B C h w"]) -> tuple[Float[Tensor, "B N D"], tuple[int, int]]:
        """Tokens, and their (rows, columns); the blocks are left to the network."""
        maps = self.proj(maps)
        grid, tokens = (maps.shape[-2], maps.shape[-1]), self.patch_norm(as_tokens(maps))
        if self.cls_token is not None:
            tokens = torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], dim=1)
        return tokens, grid


class CvT(nn.Module):
    """A CvT without a head, for images of any size: features are the class token of the last stage, normalised."""

    def __init__(self, stages: list[Stage], widths: Sequence[int]) -> None:
        super().__init__()
        self.stages, self.num_features = nn.ModuleList(stages), widths[-1]
        self.norm = nn.LayerNorm(widths[-1], eps=EPS)
        depths = [len(stage.blocks) for stage in stages]
        self.feature_info = feature_info(widths, depths, [4, 8, 16], "stages.{stage}.blocks.{block}")

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D"]:
        """Features."""
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
        maps, number, last = images, 0, self.stages[-1]
        stage: Any
        for stage in self.stages:
            tokens, grid = stage(maps)
            prefix = int(stage is last)
            for block in stage.blocks:
                tokens = block(tokens, grid, prefix)
                if taps.offer(number, tokens, grid, prefix, self.norm if stage is last else None):
                    return tokens
                number += 1
            if stage is not last:
                maps = as_map(tokens, grid)
        return self.norm(tokens)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """ValueError: a second forward would move the running statistics of the BatchNorms twice."""
        if enable:
            raise ValueError("CvT cannot make its activations again: its BatchNorms would count every image twice.")

    def no_weight_decay(self) -> set[str]:
        """Names that the recipes keep out of weight decay."""
        return {name for name, _ in self.named_parameters() if name.endswith("cls_token")}

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """timm's table of layers, for learning rates that fall from layer to layer."""
        first = (r"^stages\.(\d+)\.(?:proj|patch_norm|cls_token)", (0,))
        return {"blocks": [first, (r"^stages\.(\d+)\.blocks\.(\d+)", None), (r"^norm", (99999,))]}


def cvt(
    widths: Sequence[int],
    depths: Sequence[int],
    heads: Sequence[int],
    mlp_ratio: float,
    drop_path_rate: float,
    attention: Attention = "auto",
) -> CvT:
    """A freshly initialised CvT: images (B, 3, H, W) to features (B, widths[-1]).

    All lists have one entry a stage, three in all. `drop_path_rate`: of the last block; it rises linearly from 0 over
    the last stage, and the stages before have none, as in the authors' configuration.
    """
    rates = iter([0.0] * sum(depths[:-1]) + drop_path.rates(drop_path_rate, depths[-1], "linear"))
    stages = []
    for number, embedding in enumerate(EMBEDDINGS):
        channels, last = 3 if number == 0 else widths[number - 1], number == len(EMBEDDINGS) - 1
        stage = Stage(channels, widths[number], embedding, last)
        for _ in range(depths[number]):
            stage.blocks.append(Block(widths[number], heads[number], mlp_ratio, next(rates), attention))
        stages.append(stage)
    network = CvT(stages, widths)
    draw_linear(network, "truncated_normal")
    for name, parameter in network.named_parameters():
        if name.endswith("cls_token"):
            draw(parameter, "truncated_normal")
    return network
