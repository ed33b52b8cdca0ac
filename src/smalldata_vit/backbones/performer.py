"""Attention whose cost grows with the number of tokens, not with its square: positive random features.

Choromanski et al., Rethinking Attention with Performers, ICLR 2021, arXiv:2009.14794, in the single-head form of
T2T-ViT (Yuan et al., ICCV 2021, arXiv:2101.11986), whose names of weights are kept.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

EPSILON = 1e-8
"""Added to the normaliser, which may underflow for long keys; T2T-ViT's value."""


def random_features(x: Float[Tensor, "B N d"], directions: Float[Tensor, "m d"]) -> Float[Tensor, "B N m"]:
    """exp(w·x - |x|²/2) / √m for each direction w: E[φ(q)·φ(k)] = exp(q·k) for normal w (lemma 1)."""
    return torch.exp(x @ directions.T - x.square().sum(-1, keepdim=True) / 2) / math.sqrt(len(directions))


def linear_attention(
    query: Float[Tensor, "B N d"],
    key: Float[Tensor, "B N d"],
    value: Float[Tensor, "B N d"],
    directions: Float[Tensor, "m d"],
) -> Float[Tensor, "B N d"]:
    """Σ_j φ(q_i)·φ(k_j) v_j / Σ_j φ(q_i)·φ(k_j), without the N x N matrix."""
    queries, keys = random_features(query, directions), random_features(key, directions)
    normaliser = queries @ keys.sum(dim=1)[..., None]
    return queries @ (keys.transpose(1, 2) @ value) / (normaliser + EPSILON)


class Performer(nn.Module):
    """One layer of T2T-ViT's token stage: tokens (B, N, `width_in`) to (B, N, `width`).

    As the widths differ, the value takes the place of the residual. The directions are drawn at construction: `width`
    / 2 orthogonal rows of length √(width / 2), a parameter that does not train and is saved with the rest. `dropout`:
    of both branches; 0.1 in T2T-ViT and in Cao et al., 0 in Li et al. Its masks are drawn for a forward, not for
    places of the global batch.
    """

    def __init__(self, width_in: int, width: int, norm_eps: float, dropout: float) -> None:
        super().__init__()
        self.kqv = nn.Linear(width_in, 3 * width)
        self.dp = nn.Dropout(dropout)
        self.proj = nn.Linear(width, width)
        self.norm1 = nn.LayerNorm(width_in, eps=norm_eps)
        self.norm2 = nn.LayerNorm(width, eps=norm_eps)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width), nn.Dropout(dropout))
        drawn = nn.init.orthogonal_(torch.empty(width // 2, width)) * math.sqrt(width // 2)
        self.w = nn.Parameter(drawn, requires_grad=False)

    def forward(self, tokens: Float[Tensor, "B N width_in"]) -> Float[Tensor, "B N width"]:
        """The tokens, attended to each other and at their new width."""
        key, query, value = self.kqv(self.norm1(tokens)).chunk(3, dim=-1)
        kind = "cpu" if tokens.is_meta else tokens.device.type  # there is no autocast for meta
        with torch.autocast(kind, enabled=False):  # exponentials of sums of squares need float32
            mixed = linear_attention(query.float(), key.float(), value.float(), self.w)
        tokens = value + self.dp(self.proj(mixed))
        return tokens + self.mlp(self.norm2(tokens))
