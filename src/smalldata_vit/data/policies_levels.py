"""How strong an operation of a policy is at each level, and which of them have two directions."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from smalldata_vit.data.choices import Numbers
from smalldata_vit.data.policies_plan import INTERPOLATIONS, OPERATIONS, Named, number

SIGNED = {*OPERATIONS[1:6], "Brightness", "Color", "Contrast", "Sharpness"}

HIGHEST = {
    "ShearX": 0.3, "ShearY": 0.3, "TranslateX": 150 / 331, "TranslateY": 150 / 331, "Rotate": 30.0,
    "Brightness": 0.9, "Color": 0.9, "Contrast": 0.9, "Sharpness": 0.9, "Cutout": 20.0,
}  # fmt: skip
"""Magnitude at the last level, in the units of `Named.magnitude`."""

WIDE = {
    "ShearX": 0.99, "ShearY": 0.99, "TranslateX": 32.0, "TranslateY": 32.0, "Rotate": 135.0,
    "Brightness": 0.99, "Color": 0.99, "Contrast": 0.99, "Sharpness": 0.99,
}  # fmt: skip
"""The same for TrivialAugment, whose translations are in pixels."""


def magnitudes(
    levels: int, highest: Mapping[str, float], fewest_bits: int = 4, solarize: int = 255
) -> NDArray[np.float64]:
    """The magnitude of each operation at each level, (operations, levels); 0 where an operation has none.

    `fewest_bits` are kept by Posterize at the last level; `solarize` is its threshold at the first.
    """
    step = np.arange(levels)
    rows = {name: top * step / (levels - 1) for name, top in highest.items()}
    rows["Posterize"] = 8 - np.rint(step / ((levels - 1) / (8 - fewest_bits)))
    rows["Solarize"] = solarize * (1 - step / (levels - 1))
    return np.stack([rows.get(name, np.zeros(levels)) for name in OPERATIONS])


def signed(operation: NDArray[np.int64], magnitude: Numbers, uniform: Numbers) -> Numbers:
    """Every second magnitude negated, where an operation has two directions."""
    two_ways = np.array([name in SIGNED for name in OPERATIONS])[operation]
    return np.where(two_ways & (uniform < 0.5), -magnitude, magnitude)


def alike(operation: NDArray[np.int64], interpolation: str) -> NDArray[np.int64]:
    """One interpolation for all."""
    return np.full_like(operation, INTERPOLATIONS.index(interpolation))


def published(
    operation: NDArray[np.int64], magnitude: Numbers, uniform: Numbers, centre: Numbers | None = None
) -> Named:
    """The choices of codes that descend from the first PyTorch AutoAugment, those of Gani et al. and of IDMM among
    them: a rotation keeps its sign, shears are bicubic, all else takes the nearest pixel."""
    rotate, shear = operation == OPERATIONS.index("Rotate"), np.isin(operation, number("ShearX", "ShearY"))
    size = np.where(rotate, magnitude, signed(operation, magnitude, uniform))
    return Named(operation, size, np.where(shear, INTERPOLATIONS.index("bicubic"), 0), centre)


def colour(name: str, values: Sequence[int]) -> list[int]:
    """Red, green and blue; ValueError names the argument if they are none."""
    if len(values) != 3 or not all(0 <= value <= 255 for value in values):
        raise ValueError(f"{name}={list(values)} must be red, green and blue, whole numbers from 0 to 255")
    return list(values)
