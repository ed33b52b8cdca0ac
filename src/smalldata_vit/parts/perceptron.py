"""The small networks behind a backbone in contrastive learning: projection and prediction heads with ReLU."""

from itertools import pairwise
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

Norms = Literal["none", "inner", "all"]
"""Where BatchNorm stands: nowhere, before each ReLU, or behind the last layer too (there without scale and shift)."""


class Perceptron(nn.Sequential):
    """Linear layers with ReLU between them, (B, in_features) to (B, out_features); weights start as PyTorch has it.

    A layer in front of a BatchNorm has no bias, which the BatchNorm would only take away again.

    Arguments:
        hidden: width of the inner layers.
        layers: linear layers in all, at least one.
        norms: where BatchNorm stands.
    """

    def __init__(self, in_features: int, hidden: int, out_features: int, layers: int, norms: Norms) -> None:
        if layers < 1:
            raise ValueError(f"a head of {layers} layers cannot be built; it needs at least 1")
        widths = [in_features, *[hidden] * (layers - 1), out_features]
        parts: list[nn.Module] = []
        for number, (fan_in, fan_out) in enumerate(pairwise(widths), start=1):
            last = number == layers
            normed = norms == "all" or (norms == "inner" and not last)
            parts.append(nn.Linear(fan_in, fan_out, bias=not normed))
            parts += [nn.BatchNorm1d(fan_out, affine=not last)] if normed else []
            parts += [] if last else [nn.ReLU()]
        super().__init__(*parts)

    def forward(self, features: Float[Tensor, "B in"]) -> Float[Tensor, "B out"]:
        """The projections, not normalised."""
        return super().forward(features)
