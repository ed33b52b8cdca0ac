"""Locality self-attention (LSA): a learned temperature a head, and no token attends to itself.

Lee, Lee and Song, Vision Transformer for Small-Size Datasets, 2021, arXiv:2112.13492, section 3.2.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from smalldata_vit.backbones.added_attention import attend_with
from smalldata_vit.backbones.vit import Attention

OWN = -987654321.0
"""Similarity of a token with itself; finite, as with -inf a token that is alone would have no attention at all."""


def head_scales(heads: int, head_width: int) -> nn.Parameter:
    """The learned factor on each head's similarities: 1 / temperature of eq. (4), which begins at head_width^-1/2."""
    return nn.Parameter(torch.full((heads,), head_width**-0.5))


def own_tokens(number: int, device: torch.device) -> Float[Tensor, "N N"]:
    """The matrix whose sum with the similarities hides each token from itself; eq. (3)."""
    return torch.eye(number, device=device) * OWN


class LocalityAttention(nn.Module):
    """LSA in place of a ViT's self-attention; linear layers have timm's names, `head_scale` (heads,) is new.

    `form`: see `backbones.vit.Attention`.
    """

    def __init__(self, width: int, heads: int, form: Attention) -> None:
        super().__init__()
        self.heads, self.form = heads, form
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)
        self.head_scale = head_scales(heads, width // heads)

    def forward(self, tokens: Float[Tensor, "B N D"], queries: int) -> Float[Tensor, "B Q D"]:
        """The mixture of the others that each of the first `queries` tokens takes."""
        images, number, width = tokens.shape
        weight = self.qkv.weight
        rest = F.linear(tokens, weight[width:]).reshape(images, number, 2, self.heads, width // self.heads)
        key, value = rest.permute(2, 0, 3, 1, 4).unbind(0)
        query = F.linear(tokens[:, :queries], weight[:width]).unflatten(2, (self.heads, -1)).transpose(1, 2)
        query = query * self.head_scale.to(query.dtype)[:, None, None]
        hidden = own_tokens(number, tokens.device)[None, None, :queries]
        mixed = attend_with(query, key, value, hidden, self.form)
        return self.proj(mixed.transpose(1, 2).reshape(images, queries, width))
