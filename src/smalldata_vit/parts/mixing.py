"""MixUp and CutMix: training on blends of two images. Zhang et al., arXiv 1710.09412; Yun et al., arXiv 1905.04899."""

from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from smalldata_vit import randomness
from smalldata_vit.schedules import Progress


class Mixed(NamedTuple):
    """Images that are blends, and of what: image i is `share` of the old image i and the rest of `partner[i]`."""

    image: Float[Tensor, "N 3 H W"]
    partner: Int[Tensor, " N"]
    share: Float[Tensor, ""]


class Mixing:
    """One draw for all images of a forward: whether to mix, how, with whom and how much.

    Arguments:
        probability: that a forward is mixed at all (Gani et al. 0.5, IDMM 1).
        mixup_alpha: α of λ ~ Beta(α, α) in MixUp; 1 in Gani et al., 0.5 in IDMM.
        cutmix_alpha: the same in CutMix.
        switch: `random`: CutMix with chance `cutmix_share`, else MixUp; `epoch_parity`: MixUp in even epochs, CutMix
            in odd ones (IDMM).
        fold: λ ← max(λ, 1 - λ), so that an image stays the larger part (IDMM).
        cutmix_share: chance of CutMix under `switch=random`; 1 is CutMix alone, 0 MixUp alone.
    """

    def __init__(
        self,
        probability: float,
        mixup_alpha: float,
        cutmix_alpha: float,
        switch: Literal["random", "epoch_parity"] = "random",
        fold: bool = False,
        cutmix_share: float = 0.5,
    ) -> None:
        for name, chance in {"probability": probability, "cutmix_share": cutmix_share}.items():
            if not 0 <= chance <= 1:
                raise ValueError(f"mixing: {name} is {chance}; a chance lies between 0 and 1")
        self.probability, self.cutmix_share, self.switch, self.fold = probability, cutmix_share, switch, fold
        self.mixup_alpha, self.cutmix_alpha = mixup_alpha, cutmix_alpha

    def __call__(self, image: Float[Tensor, "N 3 H W"], seed: int, group: int, progress: Progress) -> Mixed:
        """The blends; a function of its arguments, drawn on the CPU from (seed, group)."""
        count, _, height, width = image.shape
        partner, other = self.draw(randomness.generator(seed, "mixing", group), count, height, width, progress)
        weight = torch.from_numpy(other).to(image.device, non_blocking=True)
        share = image.new_full((), 1.0 - float(other.mean(dtype=np.float64)))
        index = torch.from_numpy(partner).to(image.device, non_blocking=True)
        return Mixed(image.lerp(image[index], weight.to(image.dtype)), index, share)

    def draw(
        self, generator: np.random.Generator, count: int, height: int, width: int, progress: Progress
    ) -> tuple[np.ndarray, np.ndarray]:
        """Partners, int64 (count,), and the other image's weight at each pixel, float32 (height, width)."""
        partner = generator.permutation(count)
        mixes, cuts = generator.random(2)
        if mixes >= self.probability:
            return partner, np.zeros((height, width), dtype=np.float32)
        odd_epoch = int(progress.epoch) % 2 == 1
        if odd_epoch if self.switch == "epoch_parity" else cuts < self.cutmix_share:
            share = self._share(generator, self.cutmix_alpha)
            return partner, box_mask(generator.random(2), share, height, width)
        share = self._share(generator, self.mixup_alpha)
        return partner, np.full((height, width), 1.0 - share, dtype=np.float32)

    def _share(self, generator: np.random.Generator, alpha: float) -> float:
        share = float(generator.beta(alpha, alpha))
        return max(share, 1.0 - share) if self.fold else share


def box_mask(centre: np.ndarray, share: float, height: int, width: int) -> np.ndarray:
    """1 inside CutMix's box and 0 outside, float32 (height, width).

    The box has √(1 - share) of each side, rounded down; its centre is a pixel, given as fractions (row, column) in
    [0, 1); what lies outside the image is cut off, so that the share of the pixels can be larger than asked for.
    """
    side = (1.0 - share) ** 0.5
    mask = np.zeros((height, width), dtype=np.float32)
    rows, columns = (_span(int(c * n), int(n * side), n) for c, n in zip(centre, (height, width), strict=True))
    mask[rows, columns] = 1.0
    return mask


def _span(centre: int, length: int, limit: int) -> slice:
    return slice(max(centre - length // 2, 0), min(centre + length // 2, limit))
