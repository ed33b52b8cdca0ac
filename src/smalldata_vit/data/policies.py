"""AutoAugment (Cubuk et al., CVPR 2019), RandAugment (Cubuk et al., NeurIPS 2020) and TrivialAugment (Müller and
Hutter, ICCV 2021) in torchvision's form, and AutoAugment as Gani et al. (BMVC 2022) have it. In 8 bits, as published.
"""

from functools import partial
from typing import Literal

import numpy as np
from jaxtyping import Float
from torch import Tensor
from torchvision.transforms import AutoAugment as PublishedPolicies
from torchvision.transforms import AutoAugmentPolicy

from smalldata_vit.data.choices import Choices, Numbers
from smalldata_vit.data.policies_arithmetic import apply_as_pillow, apply_as_torchvision
from smalldata_vit.data.policies_levels import HIGHEST, WIDE, alike, magnitudes, published, signed
from smalldata_vit.data.policies_plan import OPERATIONS, Arithmetic, Named, number, planned

RANDOM = number(
    "Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast",
    "Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize",
)  # fmt: skip
"""The operations of RandAugment and TrivialAugment."""

Interpolation = Literal["nearest", "bilinear"]


class AutoAugment:
    """A learnt policy: one of 25 pairs of operations, each with its probability and level, signs at random.

    Arguments:
        policy: CIFAR10, SVHN or IMAGENET.
        fill: 0..255, of what a geometric operation brings in from outside; torchvision 0, Gani et al. 128.
        interpolation: of the geometric operations; the variant `gani` has its own.
        variant: `torchvision`: the bits of its operations on tensors. `gani`: Pillow's operations; a rotation is
            never negated, shears are bicubic, translations of a fraction of a pixel, solarize goes down from 256.
    """

    numbers = 5

    def __init__(
        self,
        policy: Literal["CIFAR10", "SVHN", "IMAGENET"],
        fill: int,
        interpolation: Interpolation = "nearest",
        variant: Literal["torchvision", "gani"] = "torchvision",
    ) -> None:
        if variant == "gani" and interpolation != "nearest":
            raise ValueError(f"interpolation={interpolation} cannot be chosen with variant=gani: leave it at nearest")
        pairs = PublishedPolicies(AutoAugmentPolicy[policy]).policies
        named = [[(OPERATIONS.index(name), chance, level or 0) for name, chance, level in pair] for pair in pairs]
        self.table = np.array(named, dtype=np.float64)  # (pairs, 2, [operation, probability, level])
        self.gani, self.interpolation = variant == "gani", interpolation
        self.magnitudes = magnitudes(10, HIGHEST, solarize=256 if self.gani else 255)
        self.arithmetic: Arithmetic = "pillow" if self.gani else "torchvision"
        self.apply = partial(apply_as_pillow if self.gani else apply_as_torchvision, fill=[fill] * 3)

    def name(self, uniform: Numbers) -> Named:
        """The operations (B, V, 2) in the words of the publication."""
        pair = self.table[(uniform[..., 0] * len(self.table)).astype(np.int64)]
        operation = np.where(uniform[..., 1:3] <= pair[..., 1], pair[..., 0], 0).astype(np.int64)
        size = self.magnitudes[operation, pair[..., 2].astype(np.int64)]
        if self.gani:
            return published(operation, size, uniform[..., 3:5])
        return Named(operation, signed(operation, size, uniform[..., 3:5]), alike(operation, self.interpolation))

    def draw(self, uniform: Numbers) -> Choices:
        """See `policies_plan.planned`, two layers."""
        return planned(self.name(uniform), self.arithmetic)

    def __call__(self, images: Float[Tensor, "n 3 S S"], choices: Choices) -> Float[Tensor, "n 3 S S"]:
        """The views after both operations."""
        return self.apply(images, choices)


class RandAugment:
    """Operations drawn uniformly from 14, all at one level, signs at random; the bits of torchvision's on tensors.

    Arguments:
        num_ops: operations one after the other.
        magnitude: the level, below `levels`.
        fill: 0..255, of what a geometric operation brings in from outside.
        levels: into how many steps the range of each operation is cut; torchvision 31.
        interpolation: of the geometric operations.
    """

    def __init__(
        self, num_ops: int, magnitude: int, fill: int, levels: int = 31, interpolation: Interpolation = "nearest"
    ) -> None:
        if not 0 <= magnitude < levels:
            raise ValueError(f"magnitude={magnitude} must be from 0 to {levels - 1}: levels={levels}")
        self.numbers, self.num_ops, self.interpolation = 2 * num_ops, num_ops, interpolation
        self.magnitudes = magnitudes(levels, HIGHEST)[:, magnitude]
        self.apply = partial(apply_as_torchvision, fill=[fill] * 3)

    def name(self, uniform: Numbers) -> Named:
        """The operations (B, V, num_ops) in the words of the publication."""
        operation = RANDOM[(uniform[..., : self.num_ops] * len(RANDOM)).astype(np.int64)]
        size = signed(operation, self.magnitudes[operation], uniform[..., self.num_ops :])
        return Named(operation, size, alike(operation, self.interpolation))

    def draw(self, uniform: Numbers) -> Choices:
        """See `policies_plan.planned`, `num_ops` layers."""
        return planned(self.name(uniform), "torchvision")

    def __call__(self, images: Float[Tensor, "n 3 S S"], choices: Choices) -> Float[Tensor, "n 3 S S"]:
        """The views after all operations."""
        return self.apply(images, choices)


class TrivialAugment:
    """One operation of 14 at one of `levels` levels, both uniform, signs at random, in the paper's wide ranges; the
    bits of torchvision's `TrivialAugmentWide` on tensors.

    Arguments:
        fill: 0..255, of what a geometric operation brings in from outside.
        levels: into how many steps the range of each operation is cut; torchvision 31.
        interpolation: of the geometric operations.
    """

    numbers = 3

    def __init__(self, fill: int, levels: int = 31, interpolation: Interpolation = "nearest") -> None:
        if levels < 2:
            raise ValueError(f"levels={levels} leaves no range of magnitudes: give at least 2")
        self.levels, self.interpolation = levels, interpolation
        self.magnitudes = magnitudes(levels, WIDE, fewest_bits=2)
        self.apply = partial(apply_as_torchvision, fill=[fill] * 3)

    def name(self, uniform: Numbers) -> Named:
        """The operation (B, V, 1) in the words of the publication."""
        operation = RANDOM[(uniform[..., :1] * len(RANDOM)).astype(np.int64)]
        size = self.magnitudes[operation, (uniform[..., 1:2] * self.levels).astype(np.int64)]
        size = signed(operation, size, uniform[..., 2:])
        return Named(operation, size, alike(operation, self.interpolation), pixels=True)

    def draw(self, uniform: Numbers) -> Choices:
        """See `policies_plan.planned`, one layer."""
        return planned(self.name(uniform), "torchvision")

    def __call__(self, images: Float[Tensor, "n 3 S S"], choices: Choices) -> Float[Tensor, "n 3 S S"]:
        """The views after their operation."""
        return self.apply(images, choices)
