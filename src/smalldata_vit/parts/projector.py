"""The multi-layer perceptron between a network's features and the space in which self-supervised losses compare."""

from itertools import pairwise
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

PUBLISHED_STD = 0.02


class Projector(nn.Sequential):
    """Linear layers with GELU between them, (B, in_features) to (B, out_features), as in DINO's head.

    Arguments:
        hidden: width of the inner layers (DINO 2048, Gani et al. 512).
        layers: linear layers in all, at least one (3 in both).
        batch_norm: BatchNorm before each GELU. Off in both papers; in a narrow network it keeps the head from
            answering alike to all images, which is how small DINO runs collapse.
        init: of the linear weights; `truncated_normal` with standard deviation 0.02 (both papers) or `width_aware`,
            a normal one of 1/√fan_in. Biases start at 0.
    """

    def __init__(
        self,
        in_features: int,
        hidden: int,
        out_features: int,
        layers: int = 3,
        batch_norm: bool = False,
        init: Literal["truncated_normal", "width_aware"] = "truncated_normal",
    ) -> None:
        if layers < 1:
            raise ValueError(f"a projector of {layers} layers cannot be built; it needs at least 1")
        widths = [in_features, *[hidden] * (layers - 1), out_features]
        parts: list[nn.Module] = []
        for number, (fan_in, fan_out) in enumerate(pairwise(widths), start=1):
            parts.append(_linear(fan_in, fan_out, init))
            if number < layers:
                parts += [nn.BatchNorm1d(fan_out), nn.GELU()] if batch_norm else [nn.GELU()]
        super().__init__(*parts)

    def forward(self, features: Float[Tensor, "B in"]) -> Float[Tensor, "B out"]:
        """The projections, not normalised."""
        return super().forward(features)


def _linear(fan_in: int, fan_out: int, init: str) -> nn.Linear:
    layer = nn.Linear(fan_in, fan_out)
    if init == "truncated_normal":
        nn.init.trunc_normal_(layer.weight, std=PUBLISHED_STD)
    else:
        nn.init.normal_(layer.weight, std=fan_in**-0.5)
    nn.init.zeros_(layer.bias)
    return layer
