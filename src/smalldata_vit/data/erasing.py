"""Random erasing (Zhong et al., AAAI 2020) of normalised views."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from smalldata_vit.data.choices import Choices, Numbers, Probability, between, happens, interval

Fill = Literal["black", "mean", "noise", "colour", "unnormalised_mean"]
MULTIPLIERS = (0x7FEB352D, 0x2C1B3C6D)
MASK = 0xFFFFFFFF


class RandomErasing:
    """Rectangles of some views are overwritten, one after the other.

    Arguments:
        probability: for each view.
        scale: range of the share of the view's area that a rectangle has; divided by the view's number of rectangles.
        ratio: range of height over width.
        fill: `black`; `mean` (of the dataset: zero after normalising; timm's mode const); `noise` (standard normal for
            each value; timm's pixel); `colour` (standard normal for each channel of a rectangle; timm's rand);
            `unnormalised_mean` (Gani et al.: the dataset's mean as if it were a normalised value).
        tries: rectangles drawn until one fits into the view; if none does, nothing is erased. torchvision and timm: 10.
        shape: how the ratio is drawn: `log_uniform`, or `uniform` (Gani et al.).
        count: fewest and most rectangles in a view that has any, each number equally likely.
    """

    def __init__(
        self,
        probability: Probability,
        scale: Sequence[float],
        ratio: Sequence[float],
        fill: Fill,
        tries: int = 10,
        shape: Literal["log_uniform", "uniform"] = "log_uniform",
        count: Sequence[int] = (1, 1),
    ) -> None:
        self.probability, self.fill, self.tries, self.shape = probability, fill, tries, shape
        self.scale, self.ratio = interval("scale", scale, 0, 1), interval("ratio", ratio, 1e-3, 1e3)
        self.fewest, self.most = (int(bound) for bound in interval("count", count, 1, 100))
        self.numbers = 2 + self.most * (2 * tries + 3)

    def draw(self, uniform: Numbers, size: int) -> Choices:
        """`box` (B, V, R, 4): top, left, height, width in pixels of the view, zero for none; `seed` (B, V, R) of noise.

        R is the most rectangles that a view can have.
        """
        on = happens(uniform[..., 0], self.probability)
        count = self.fewest + (uniform[..., 1] * (self.most - self.fewest + 1)).astype(np.int64)
        each = uniform[..., 2:].reshape(*count.shape, self.most, -1)
        box = self._boxes(each[..., 3:], each[..., :2], count[..., None, None], size)
        some = on[..., None] & torch.from_numpy(np.arange(self.most) < count[..., None])
        seed = torch.from_numpy((each[..., 2] * 2**32).astype(np.int64))
        return {"box": torch.from_numpy(box) * some[..., None], "seed": seed}

    def _boxes(self, forms: Numbers, places: Numbers, count: NDArray[np.int64], size: int) -> NDArray[np.int64]:
        """Rectangles (B, V, R, 4), zero where none of the tries fits."""
        area = size * size * between(forms[..., : self.tries], *self.scale) / count
        form, (low, high) = forms[..., self.tries :], self.ratio
        ratio = between(form, low, high) if self.shape == "uniform" else low * (high / low) ** form
        height, width = np.rint(np.sqrt(area * ratio)), np.rint(np.sqrt(area / ratio))
        fits = (height < size) & (width < size)
        first = fits.argmax(-1)[..., None]
        height, width = (np.take_along_axis(side, first, -1) for side in (height, width))
        top, left = (
            np.floor(u * (size - side + 1)) for u, side in ((places[..., :1], height), (places[..., 1:], width))
        )
        boxes = np.concatenate([top, left, height, width], -1) * fits.any(-1, keepdims=True)
        return boxes.astype(np.int64)

    def __call__(
        self,
        images: Float[Tensor, "n 3 S S"],
        choices: Choices,
        mean: Float[Tensor, "3 1 1"],
        std: Float[Tensor, "3 1 1"],
    ) -> Float[Tensor, "n 3 S S"]:
        """Normalised views with rectangles; `mean` and `std` are those they were normalised with."""
        size = images.shape[-1]
        place = torch.arange(size, device=images.device)
        for box, seed in zip(choices["box"].unbind(1), choices["seed"].unbind(1), strict=True):
            top, left, height, width = (side[:, None] for side in box.unbind(1))
            rows, columns = (place >= top) & (place < top + height), (place >= left) & (place < left + width)
            inside = (rows[:, :, None] & columns[:, None, :])[:, None]
            images = torch.where(inside, self._filling(seed, size, mean, std), images)
        return images

    def _filling(self, seed: Int[Tensor, " n"], size: int, mean: Tensor, std: Tensor) -> Tensor:
        """What a rectangle is filled with, as far as it differs from place to place."""
        match self.fill:
            case "noise":
                return normal_noise(seed, size)
            case "colour":
                return normal_noise(seed, 1)
            case "black":
                return -mean / std
            case "mean":
                return torch.zeros_like(mean)
            case "unnormalised_mean":
                return mean


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
