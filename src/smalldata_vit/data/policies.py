"""AutoAugment (Cubuk et al., CVPR 2019) and RandAugment (Cubuk et al., NeurIPS 2020) with torchvision's operations.

Views that share an operation and its magnitude go through one call. Operations are in 8 bits, as published.
"""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms import AutoAugment as PublishedPolicies
from torchvision.transforms import AutoAugmentPolicy, InterpolationMode
from torchvision.transforms import functional as tv

from smalldata_vit.data.choices import Choices, Numbers

RANDOM = (
    "Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast",
    "Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize",
)  # fmt: skip
"""The operations of RandAugment."""

OPERATIONS = (*RANDOM, "Invert")
SIGNED = {"ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast", "Sharpness"}

HIGHEST = {
    "ShearX": 0.3, "ShearY": 0.3, "TranslateX": 150 / 331, "TranslateY": 150 / 331, "Rotate": 30.0,
    "Brightness": 0.9, "Color": 0.9, "Contrast": 0.9, "Sharpness": 0.9,
}  # fmt: skip
"""Magnitude at the last level: a slope, a share of the side, degrees, or a factor's distance from 1."""


class AutoAugment:
    """A learnt policy: one of 25 pairs of operations, each with its probability and level, signs at random.

    Arguments:
        policy: CIFAR10, SVHN or IMAGENET.
        fill: 0..255, of what a geometric operation brings in from outside; torchvision 0, Gani et al. 128.
        interpolation: of the geometric operations.

    Departures from the code of Gani et al., none of them measured: they never negate a rotation, shear bicubically and
    solarize from 256 down; here as in torchvision.
    """

    numbers = 5

    def __init__(
        self,
        policy: Literal["CIFAR10", "SVHN", "IMAGENET"],
        fill: int,
        interpolation: Literal["nearest", "bilinear"] = "nearest",
    ) -> None:
        pairs = PublishedPolicies(AutoAugmentPolicy[policy]).policies
        named = [[(OPERATIONS.index(name), chance, level or 0) for name, chance, level in pair] for pair in pairs]
        self.table = np.array(named, dtype=np.float64)  # (pairs, 2, [operation, probability, level])
        self.magnitudes = magnitudes(10)
        self.fill, self.interpolation = fill, interpolation

    def draw(self, uniform: Numbers) -> Choices:
        """`operation` and `magnitude` (B, V, 2)."""
        pair = self.table[(uniform[..., 0] * len(self.table)).astype(np.int64)]
        operation = np.where(uniform[..., 1:3] <= pair[..., 1], pair[..., 0], 0).astype(np.int64)
        return signed(operation, self.magnitudes[operation, pair[..., 2].astype(np.int64)], uniform[..., 3:5])

    def __call__(self, images: Float[Tensor, "n 3 S S"], choices: Choices) -> Float[Tensor, "n 3 S S"]:
        """The views after both operations."""
        return apply_policy(images, choices, self.fill, self.interpolation)


class RandAugment:
    """Operations drawn uniformly from 14, all at one level, signs at random.

    Arguments:
        num_ops: operations one after the other.
        magnitude: the level, below `levels`.
        fill: 0..255, of what a geometric operation brings in from outside.
        levels: into how many steps the range of each operation is cut; torchvision 31.
        interpolation: of the geometric operations.
    """

    def __init__(
        self,
        num_ops: int,
        magnitude: int,
        fill: int,
        levels: int = 31,
        interpolation: Literal["nearest", "bilinear"] = "nearest",
    ) -> None:
        if not 0 <= magnitude < levels:
            raise ValueError(f"magnitude={magnitude} must be from 0 to {levels - 1}: levels={levels}")
        self.numbers, self.num_ops = 2 * num_ops, num_ops
        self.magnitudes = magnitudes(levels)[:, magnitude]
        self.fill, self.interpolation = fill, interpolation

    def draw(self, uniform: Numbers) -> Choices:
        """`operation` and `magnitude` (B, V, num_ops)."""
        operation = (uniform[..., : self.num_ops] * len(RANDOM)).astype(np.int64)
        return signed(operation, self.magnitudes[operation], uniform[..., self.num_ops :])

    def __call__(self, images: Float[Tensor, "n 3 S S"], choices: Choices) -> Float[Tensor, "n 3 S S"]:
        """The views after all operations."""
        return apply_policy(images, choices, self.fill, self.interpolation)


def magnitudes(levels: int) -> NDArray[np.float64]:
    """The magnitude of each operation at each level, (operations, levels); 0 where an operation has none."""
    step = np.arange(levels)
    rows = {name: highest * step / (levels - 1) for name, highest in HIGHEST.items()}
    rows["Posterize"] = 8 - np.rint(step / ((levels - 1) / 4))
    rows["Solarize"] = 255 * (1 - step / (levels - 1))
    return np.stack([rows.get(name, np.zeros(levels)) for name in OPERATIONS])


def signed(operation: NDArray[np.int64], magnitude: Numbers, uniform: Numbers) -> Choices:
    """Choices with every second magnitude negated, where an operation has two directions."""
    two_ways = np.array([name in SIGNED for name in OPERATIONS])[operation]
    magnitude = np.where(two_ways & (uniform < 0.5), -magnitude, magnitude)
    return {"operation": torch.from_numpy(operation), "magnitude": torch.from_numpy(magnitude)}


def apply_policy(
    images: Float[Tensor, "n 3 S S"], choices: Choices, fill: int, interpolation: str
) -> Float[Tensor, "n 3 S S"]:
    """The views, rounded to 8 bits, after their operations; `choices` (n, k) lie on the CPU."""
    made = images.mul(255).round_().to(torch.uint8)
    mode = InterpolationMode(interpolation)
    for operation, magnitude in zip(choices["operation"].T.tolist(), choices["magnitude"].T.tolist(), strict=True):
        alike: dict[tuple[int, float], list[int]] = {}
        for row, what in enumerate(zip(operation, magnitude, strict=True)):
            alike.setdefault(what, []).append(row)
        for (number, size), chosen in alike.items():
            if OPERATIONS[number] != "Identity":
                rows = torch.tensor(chosen, device=made.device)
                made[rows] = changed(made[rows], OPERATIONS[number], size, mode, [float(fill)] * 3)
    return made.float().div_(255)


def changed(
    images: UInt8[Tensor, "n 3 S S"], name: str, magnitude: float, mode: InterpolationMode, fill: Sequence[float]
) -> UInt8[Tensor, "n 3 S S"]:
    """All views after one operation; the meaning of `magnitude` is that of `HIGHEST`, bits or a threshold."""
    axis = [1.0, 0.0] if name.endswith("X") else [0.0, 1.0]
    match name:
        case "ShearX" | "ShearY":
            shear = [math.degrees(math.atan(magnitude)) * part for part in axis]
            return tv.affine(images, 0.0, [0, 0], 1.0, shear, mode, list(fill), center=[0, 0])
        case "TranslateX" | "TranslateY":
            shift = [int(magnitude * images.shape[-1]) * int(part) for part in axis]
            return tv.affine(images, 0.0, shift, 1.0, [0.0, 0.0], mode, list(fill))
        case "Rotate":
            return tv.rotate(images, magnitude, mode, fill=list(fill))
        case "Brightness":
            return tv.adjust_brightness(images, 1 + magnitude)
        case "Color":
            return tv.adjust_saturation(images, 1 + magnitude)
        case "Contrast":
            return tv.adjust_contrast(images, 1 + magnitude)
        case "Sharpness":
            return sharpened(images, 1 + magnitude)
        case "Posterize":
            return tv.posterize(images, int(magnitude))
        case "Solarize":
            return tv.solarize(images, magnitude)
        case "AutoContrast":
            return tv.autocontrast(images)
        case "Equalize":
            return tv.equalize(images)
        case "Invert":
            return tv.invert(images)
    raise ValueError(f"{name} is no operation of a policy; those are {', '.join(OPERATIONS)}")


def sharpened(images: UInt8[Tensor, "n 3 S S"], factor: float) -> UInt8[Tensor, "n 3 S S"]:
    """torchvision's `adjust_sharpness` in whole numbers: its convolution may round to TF32 on an accelerator."""
    values = images.float()
    sums = F.avg_pool2d(values, 3, stride=1, divisor_override=1) + 4 * values[..., 1:-1, 1:-1]
    smooth = values.clone()
    smooth[..., 1:-1, 1:-1] = (sums / 13).round()
    return (values * factor + smooth * (1 - factor)).clamp(0, 255).to(torch.uint8)
