"""Attention whose similarities have a matrix added: relative positions, windows that must not see each other."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from smalldata_vit.backbones.vit import Attention


def attend_with(
    query: Float[Tensor, "rows heads Q d"],
    key: Float[Tensor, "rows heads N d"],
    value: Float[Tensor, "rows heads N d"],
    added: Float[Tensor, "G #heads Q N"],
    form: Attention,
) -> Float[Tensor, "rows heads Q d"]:
    """softmax(Q Kᵀ + A) V, in one of two forms that differ by rounding; row i takes the matrix i mod G.

    The queries are scaled already. On a CPU `auto` is explicit in every precision: its fused kernel takes no matrix
    that has a gradient, and the general path behind it is no faster.
    """
    groups = len(added)
    if form == "explicit" or (form == "auto" and query.device.type == "cpu"):
        similarity = (query @ key.transpose(-2, -1)).unflatten(0, (-1, groups)) + added
        return similarity.softmax(dim=-1).flatten(0, 1) @ value
    if groups > 1:
        added = added.expand(len(query) // groups, *added.shape).flatten(0, 1)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=added.to(query.dtype), scale=1.0)
