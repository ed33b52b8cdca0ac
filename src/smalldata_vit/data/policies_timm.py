"""RandAugment as timm has it (Wightman, Touvron and Jégou, arXiv 2110.00476, appendix), named by timm's string."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.special import ndtri
from torch import Tensor

from smalldata_vit.data.choices import Choices, Numbers
from smalldata_vit.data.policies_arithmetic import apply_as_pillow
from smalldata_vit.data.policies_levels import colour
from smalldata_vit.data.policies_plan import INTERPOLATIONS, OPERATIONS, Named, number, planned

TIMM = number(
    "AutoContrast", "Equalize", "Invert", "Rotate", "Posterize", "Solarize", "SolarizeAdd", "Color", "Contrast",
    "Brightness", "Sharpness", "ShearX", "ShearY", "TranslateX", "TranslateY",
)  # fmt: skip
HIGHEST = 10.0
"""The level to which ranges are given."""

RANGES = {"Rotate": 30.0, "ShearX": 0.3, "ShearY": 0.3, "TranslateX": 0.45, "TranslateY": 0.45}
FACTORS = ("Color", "Contrast", "Brightness", "Sharpness")


@dataclass(frozen=True)
class Recipe:
    """What timm's string says.

    Arguments:
        m: level. n: operations one after the other. p: probability of each. inc: levels increase the change.
        mstd: standard deviation of the level; above 100 it is uniform from 0 to m.
        mmax: largest level; 0 stands for 10.
    """

    m: int
    n: int
    p: float
    mstd: float
    mmax: int
    inc: int


class TimmRandAugment:
    """Operations drawn uniformly from 15, each with a probability and a level of its own; made with Pillow's
    arithmetic, bit for bit.

    Where timm asks Pillow to keep 0 bits of each value (level 10, with `inc1`), which Pillow 13 refuses and earlier
    ones answered with a black image, one bit is kept.

    Arguments:
        recipe: timm's string, `rand-m9-mstd0.5-inc1` for one, with the sections m, n, p, mstd, mmax and inc.
        fill: colour 0..255 of what a geometric operation brings in; timm: the dataset's mean.
        interpolation: of the geometric operations; timm: that of the crop if one is named, else `random` of the two.
    """

    def __init__(
        self, recipe: str, fill: Sequence[int], interpolation: Literal["random", "bilinear", "bicubic"] = "random"
    ) -> None:
        self.recipe, self.interpolation = parsed(recipe), interpolation
        self.numbers = 5 * self.recipe.n
        self.apply = partial(apply_as_pillow, fill=colour("fill", fill))

    def name(self, uniform: Numbers) -> Named:
        """The operations (B, V, n) in the words of the publication."""
        kind, chance, level, sign, way = np.split(uniform, 5, axis=2)
        operation = np.where(chance < self.recipe.p, TIMM[(kind * len(TIMM)).astype(np.int64)], 0)
        chosen = {"bilinear": 1.0, "bicubic": 0.0, "random": 0.5}[self.interpolation]
        interpolation = np.where(way < chosen, *(INTERPOLATIONS.index(name) for name in ("bilinear", "bicubic")))
        return Named(operation, magnitude(operation, self.level(level), sign, bool(self.recipe.inc)), interpolation)

    def level(self, uniform: Numbers) -> Numbers:
        """The level of each operation, with its noise, within its bounds."""
        m, spread = self.recipe.m, self.recipe.mstd
        noisy = m * uniform if spread > 100 else m + spread * ndtri(np.maximum(uniform, 1e-300))
        return np.clip(noisy, 0, self.recipe.mmax or HIGHEST)

    def draw(self, uniform: Numbers) -> Choices:
        """See `policies_plan.planned`, n layers."""
        return planned(self.name(uniform), "pillow")

    def __call__(self, images: Float[Tensor, "n 3 S S"], choices: Choices) -> Float[Tensor, "n 3 S S"]:
        """The views after all operations."""
        return self.apply(images, choices)


def parsed(recipe: str) -> Recipe:
    """What timm's string says; ValueError names a section that is not understood."""
    start, *sections = recipe.split("-")
    if start != "rand":
        raise ValueError(f"recipe={recipe} must begin with rand-, as in rand-m9-mstd0.5-inc1")
    given: dict[str, float] = {}
    for section in sections:
        match = re.fullmatch(r"(mstd|mmax|inc|m|n|p)(\d+|(?<=p|d)\d*\.\d+)", section)
        if match is None:
            raise ValueError(f"recipe={recipe}: {section} is none of m9, n2, p0.5, mstd0.5, mmax10, inc1")
        given[match[1]] = float(match[2])
    m, n, mmax, inc = (int(given.get(name, usual)) for name, usual in (("m", 10), ("n", 2), ("mmax", 0), ("inc", 0)))
    read = Recipe(m, n, given.get("p", 0.5), given.get("mstd", 0.0), mmax, inc)
    if read.n < 1 or read.p > 1:
        raise ValueError(f"recipe={recipe}: n{read.n} must be at least n1, and p{read.p:g} at most p1")
    return read


def magnitude(operation: NDArray[np.int64], level: Numbers, sign: Numbers, increasing: bool) -> Numbers:
    """Of each operation, in the units of `Named`; a `sign` above 0.5 negates what has two directions."""
    share, towards = level / HIGHEST, np.where(sign > 0.5, -1, 1)
    made = np.zeros(operation.shape)
    for name, highest in RANGES.items():
        made = np.where(operation == OPERATIONS.index(name), towards * share * highest, made)
    factor = np.maximum(0.1, 1 + towards * share * 0.9) if increasing else share * 1.8 + 0.1
    made = np.where(np.isin(operation, number(*FACTORS)), factor - 1, made)
    bits, threshold = np.floor(share * 4), np.minimum(256, np.floor(share * 256))
    bits, threshold = (4 - bits, 256 - threshold) if increasing else (bits, threshold)
    made = np.where(operation == OPERATIONS.index("Posterize"), np.clip(bits, 1, 8), made)
    made = np.where(operation == OPERATIONS.index("Solarize"), threshold, made)
    return np.where(operation == OPERATIONS.index("SolarizeAdd"), np.minimum(128, np.floor(share * 110)), made)
