"""T2T-ViT's token stage: three overlapping soft splits of the image with attention between them.

Yuan et al., Tokens-to-Token ViT, ICCV 2021, arXiv:2101.11986, section 3.1, with the authors' names of weights.
"""

import torch.nn.functional as F
from jaxtyping import Float
from timm.layers.mlp import Mlp
from torch import Tensor, nn

from smalldata_vit.backbones.intermediates import as_map
from smalldata_vit.backbones.vit import Attention, attend

SPLITS = ((7, 4, 2), (3, 2, 1), (3, 2, 1))
"""Side, stride and padding of the soft splits, in pixels and in tokens."""


class SingleHead(nn.Module):
    """Softmax attention of one head from one width to another, the value in the place of the residual."""

    def __init__(self, width_in: int, width: int, attention: Attention) -> None:
        super().__init__()
        self.qkv = nn.Linear(width_in, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)
        self.attention: Attention = attention
        # The authors divide by the root of the width that comes in; attend by that of the queries.
        self.rescale = (width / width_in) ** 0.5

    def forward(self, tokens: Float[Tensor, "B N width_in"]) -> Float[Tensor, "B N width"]:
        """Value and attended value."""
        query, key, value = (part[:, None] for part in self.qkv(tokens).chunk(3, dim=-1))
        return (value + self.proj(attend(query * self.rescale, key, value, self.attention)))[:, 0]


class TokenTransformer(nn.Module):
    """The token stage's layer of T2T-ViT_t: tokens (B, N, `width_in`) to (B, N, `width`)."""

    def __init__(self, width_in: int, width: int, norm_eps: float, attention: Attention) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width_in, eps=norm_eps)
        self.attn = SingleHead(width_in, width, attention)
        self.norm2 = nn.LayerNorm(width, eps=norm_eps)
        self.mlp = Mlp(width, width)

    def forward(self, tokens: Float[Tensor, "B N width_in"]) -> Float[Tensor, "B N width"]:
        """The tokens, attended to each other and at their new width."""
        tokens = self.attn(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))


class TokensToToken(nn.Module):
    """Images to tokens and their grid; each token gathers its neighbours of the step before."""

    def __init__(self, first: nn.Module, second: nn.Module, token_width: int, width: int) -> None:
        super().__init__()
        self.attention1, self.attention2 = first, second
        self.project = nn.Linear(token_width * SPLITS[2][0] ** 2, width)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> tuple[Float[Tensor, "B N D"], tuple[int, int]]:
        """Tokens row by row, and (rows, columns)."""
        grids = grids_of(images.shape[-2], images.shape[-1])
        tokens = self._split(as_map(self.attention1(self._split(images, 0)), grids[0]), 1)
        tokens = self._split(as_map(self.attention2(tokens), grids[1]), 2)
        return self.project(tokens), grids[2]

    @staticmethod
    def _split(maps: Float[Tensor, "B C h w"], number: int) -> Float[Tensor, "B N patch"]:
        side, stride, padding = SPLITS[number]
        return F.unfold(maps, side, stride=stride, padding=padding).transpose(1, 2)


def grids_of(height: int, width: int) -> list[tuple[int, int]]:
    """Rows and columns after each soft split of an image of this size in pixels; ValueError below 3 pixels."""
    if min(height, width) < SPLITS[0][0] - 2 * SPLITS[0][2]:
        raise ValueError(f"Images of {height} x {width} pixels are smaller than a soft split: 3 pixels are needed.")
    grids = []
    for side, stride, padding in SPLITS:
        height, width = ((length + 2 * padding - side) // stride + 1 for length in (height, width))
        grids.append((height, width))
    return grids
