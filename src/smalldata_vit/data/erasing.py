"""Random erasing (Zhong et al., AAAI 2020) of normalised views."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from smalldata_vit.data.choices import Choices, Numbers, Probability, between, happens, interval

Fill = Literal["black", "mean", "noise", "unnormalised_mean"]
MULTIPLIERS = (0x7FEB352D, 0x2C1B3C6D)
MASK = 0xFFFFFFFF


class RandomErasing:
    """One rectangle of some views is overwritten.

    Arguments:
        probability: for each view.
        scale: range of the rectangle's share of the view's area.
        ratio: range of height over width.
        fill: `black`; `mean` (of the dataset: zero after normalising); `noise` (standard normal for each value);
            `unnormalised_mean` (Gani et al.: the dataset's mean as if it were a normalised value).
        tries: rectangles drawn until one fits into the view; if none does, nothing is erased. torchvision: 10.
        shape: how the ratio is drawn: `log_uniform`, or `uniform` (Gani et al.).
    """

    def __init__(
        self,
        probability: Probability,
        scale: Sequence[float],
        ratio: Sequence[float],
        fill: Fill,
        tries: int = 10,
        shape: Literal["log_uniform", "uniform"] = "log_uniform",
    ) -> None:
        self.probability, self.fill, self.tries, self.shape = probability, fill, tries, shape
        self.scale, self.ratio = interval("scale", scale, 0, 1), interval("ratio", ratio, 1e-3, 1e3)
        self.numbers = 2 * tries + 4

    def draw(self, uniform: Numbers, size: int) -> Choices:
        """`box` (B, V, 4): top, left, height, width in pixels of the view, zero for none; `seed` (B, V) of noise."""
        area = size * size * between(uniform[..., 4 : 4 + self.tries], *self.scale)
        form = uniform[..., 4 + self.tries :]
        low, high = self.ratio
        ratio = between(form, low, high) if self.shape == "uniform" else low * (high / low) ** form
        height, width = np.rint(np.sqrt(area * ratio)), np.rint(np.sqrt(area / ratio))
        fits = (height < size) & (width < size)
        first = fits.argmax(2)[..., None]
        height, width = (np.take_along_axis(side, first, 2) for side in (height, width))
        top = np.floor(uniform[..., 1:2] * (size - height + 1))
        left = np.floor(uniform[..., 2:3] * (size - width + 1))
        on = happens(uniform[..., 0], self.probability) & torch.from_numpy(fits.any(2))
        box = torch.from_numpy(np.concatenate([top, left, height, width], 2).astype(np.int64))
        seed = torch.from_numpy((uniform[..., 3] * 2**32).astype(np.int64))
        return {"box": box * on[..., None], "seed": seed}

    def __call__(
        self,
        images: Float[Tensor, "n 3 S S"],
        choices: Choices,
        mean: Float[Tensor, "3 1 1"],
        std: Float[Tensor, "3 1 1"],
    ) -> Float[Tensor, "n 3 S S"]:
        """Normalised views with rectangles; `mean` and `std` are those they were normalised with."""
        place = torch.arange(images.shape[-1], device=images.device)
        top, left, height, width = (side[:, None] for side in choices["box"].unbind(1))
        rows, columns = (place >= top) & (place < top + height), (place >= left) & (place < left + width)
        inside = (rows[:, :, None] & columns[:, None, :])[:, None]
        if self.fill == "noise":
            return torch.where(inside, normal_noise(choices["seed"], images.shape[-1]), images)
        value = {"black": -mean / std, "mean": torch.zeros_like(mean), "unnormalised_mean": mean}[self.fill]
        return torch.where(inside, value, images)


def normal_noise(seed: Int[Tensor, " n"], size: int) -> Float[Tensor, "n 3 size size"]:
    """Standard normal numbers as a function of seed, channel and place, the same on every device.

    A hash of 32 bits (Wellons' lowbias32) picks one of 65,536 quantiles.
    """
    place = torch.arange(3 * size * size, device=seed.device)
    bits = scrambled(scrambled(seed)[:, None] ^ place)
    quantiles = torch.special.ndtri((torch.arange(65536, dtype=torch.float64, device=seed.device) + 0.5) / 65536)
    return quantiles.float()[bits >> 16].reshape(-1, 3, size, size)


def scrambled(bits: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """A bijection of 32-bit numbers without visible pattern."""
    bits = bits ^ (bits >> 16)
    bits = (bits * MULTIPLIERS[0]) & MASK
    bits = bits ^ (bits >> 15)
    bits = (bits * MULTIPLIERS[1]) & MASK
    return bits ^ (bits >> 16)
