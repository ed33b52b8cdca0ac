"""RandAugment as in the fine-tuning of IDMM (Cao et al., ECCV 2022), which follows UDA (Xie et al., NeurIPS 2020)."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from jaxtyping import Float
from torch import Tensor

from smalldata_vit.data.choices import Choices, Numbers
from smalldata_vit.data.policies_arithmetic import apply_as_pillow
from smalldata_vit.data.policies_levels import HIGHEST, colour, magnitudes, published
from smalldata_vit.data.policies_plan import Named, number, planned

UDA = number(
    "Invert", "Cutout", "Sharpness", "AutoContrast", "Posterize", "ShearX", "TranslateX", "TranslateY", "ShearY",
    "Rotate", "Equalize", "Contrast", "Color", "Solarize", "Brightness",
)  # fmt: skip
LEVELS = 9
"""Of the ten levels, the first (no change, mostly) is left out."""


class UDARandAugment:
    """Two operations, each one of 15 at one of 9 levels, both uniform, and each happens with a probability; made
    with Pillow's arithmetic, bit for bit.

    A rotation keeps its sign, shears are bicubic, translations take the nearest pixel, and a Cutout has its middle
    anywhere in the view and is cut at the border.

    Arguments:
        probability: of each operation; 0.5.
        fill: colour (red, green, blue) of what a geometric operation brings in; (128, 128, 128).
        cutout_fill: colour of a Cutout; (125, 122, 113).
    """

    numbers = 12

    def __init__(self, probability: float, fill: Sequence[int], cutout_fill: Sequence[int]) -> None:
        if not 0 <= probability <= 1:
            raise ValueError(f"probability={probability} is not between 0 and 1")
        self.probability, self.magnitudes = probability, magnitudes(10, HIGHEST, solarize=256)
        self.magnitudes[number("Cutout")] = np.rint(self.magnitudes[number("Cutout")])
        self.apply = partial(apply_as_pillow, fill=colour("fill", fill), cutout_fill=colour("cutout_fill", cutout_fill))

    def name(self, uniform: Numbers) -> Named:
        """The operations (B, V, 2) in the words of the publication."""
        on = uniform[..., 2:4] < self.probability
        operation = np.where(on, UDA[(uniform[..., :2] * len(UDA)).astype(np.int64)], 0)
        level = 1 + (uniform[..., 4:6] * LEVELS).astype(np.int64)
        centre = uniform[..., 8:12].reshape(*operation.shape, 2)
        return published(operation, self.magnitudes[operation, level], uniform[..., 6:8], centre)

    def draw(self, uniform: Numbers) -> Choices:
        """See `policies_plan.planned`, two layers."""
        return planned(self.name(uniform), "pillow")

    def __call__(self, images: Float[Tensor, "n 3 S S"], choices: Choices) -> Float[Tensor, "n 3 S S"]:
        """The views after both operations."""
        return self.apply(images, choices)
