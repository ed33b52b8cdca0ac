"""Colour of views: jitter of brightness, contrast, saturation and hue in random order, grey, solarize.

The arithmetic is torchvision's on float images: values 0..1, clamped after each step, not rounded to 8 bits.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from smalldata_vit.data.choices import Choices, Numbers, Probability, between, happens, on_rows

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
NOTHING = -1


class ColourJitter:
    """torchvision's ColorJitter: four changes in random order.

    Arguments:
        probability: of any change at all.
        brightness, contrast, saturation: s, for a factor uniform in [max(0, 1 - s), 1 + s].
        hue: h, for a shift uniform in [-h, h] of the colour circle; at most 0.5.
    """

    numbers = 9

    def __init__(
        self, probability: Probability, brightness: float, contrast: float, saturation: float, hue: float
    ) -> None:
        self.probability, self.strengths = probability, (brightness, contrast, saturation, hue)
        if min(self.strengths) < 0 or hue > 0.5:
            raise ValueError(f"jitter {self.strengths} must not be negative, and hue={hue} not above 0.5")

    def draw(self, uniform: Numbers) -> Choices:
        """`on` (B, V), `factors` (B, V, 3), `shift` (B, V), and `slots` (B, V, 6): the change in each slot or -1.

        Hue is changed once, between the third and the fourth slot; what comes before it stands in the first three.
        """
        order = uniform[..., 1:5].argsort(2)
        turn = order.argsort(2)
        slots = np.full((*order.shape[:2], 6), NOTHING)
        for change in (BRIGHTNESS, CONTRAST, SATURATION):
            if self.strengths[change] > 0:
                after = turn[..., change] > turn[..., HUE]
                slot = np.where(after, turn[..., change] + 2, turn[..., change])
                np.put_along_axis(slots, slot[..., None], change, 2)
        low = np.maximum(0, 1 - np.array(self.strengths[:3]))
        factors = low + (1 + np.array(self.strengths[:3]) - low) * uniform[..., 5:8]
        return {
            "on": happens(uniform[..., 0], self.probability),
            "factors": torch.from_numpy(factors.astype(np.float32)),
            "shift": torch.from_numpy(
                between(uniform[..., 8], -self.strengths[3], self.strengths[3]).astype(np.float32)
            ),
            "slots": torch.from_numpy(slots.astype(np.int64)),
        }

    def __call__(self, images: Float[Tensor, "n 3 H W"], choices: Choices) -> Float[Tensor, "n 3 H W"]:
        """The jittered views."""
        factors, slots = choices["factors"], choices["slots"].masked_fill(~choices["on"][:, None], NOTHING)
        changes = (change_brightness, change_contrast, change_saturation)
        for slot in range(6):
            if slot == 3 and self.strengths[HUE] > 0:
                images = on_rows(images, choices["on"], change_hue, choices["shift"])
            for change in (BRIGHTNESS, CONTRAST, SATURATION):
                if self.strengths[change] > 0:
                    images = on_rows(images, slots[:, slot] == change, changes[change], factors[:, change])
        return images


class Grayscale:
    """Luminance in all three channels; `probability` for each view."""

    numbers = 1

    def __init__(self, probability: Probability) -> None:
        self.probability = probability

    def draw(self, uniform: Numbers) -> Choices:
        """`on` (B, V)."""
        return {"on": happens(uniform[..., 0], self.probability)}

    def __call__(self, images: Float[Tensor, "n 3 H W"], choices: Choices) -> Float[Tensor, "n 3 H W"]:
        """Some of the views in grey."""
        return on_rows(images, choices["on"], lambda chosen: luminance(chosen).repeat(1, 3, 1, 1))


class Solarize:
    """Values from `threshold` (of 0..255) on are inverted."""

    numbers = 1

    def __init__(self, probability: Probability, threshold: float) -> None:
        self.probability, self.threshold = probability, threshold

    def draw(self, uniform: Numbers) -> Choices:
        """`on` (B, V)."""
        return {"on": happens(uniform[..., 0], self.probability)}

    def __call__(self, images: Float[Tensor, "n 3 H W"], choices: Choices) -> Float[Tensor, "n 3 H W"]:
        """Some of the views solarized."""
        limit = (self.threshold - 0.5) / 255  # between two 8-bit values: rounding of the division cannot matter
        return on_rows(images, choices["on"], lambda chosen: torch.where(chosen >= limit, 1 - chosen, chosen))


def luminance(images: Float[Tensor, "n 3 H W"]) -> Float[Tensor, "n 1 H W"]:
    """0.2989 R + 0.587 G + 0.114 B (ITU-R 601-2 as torchvision rounds it)."""
    return images[:, 0:1].mul(0.2989).add_(images[:, 1:2].mul(0.587)).add_(images[:, 2:3].mul(0.114))


def blend(
    images: Float[Tensor, "n 3 H W"], other: Float[Tensor, "n 1 _ _"], factor: Float[Tensor, " n"]
) -> Float[Tensor, "n 3 H W"]:
    """`factor * images + (1 - factor) * other`, clamped, in place.

    Products and sums stand apart: a fused multiply-add would round rows differently at the end of a batch.
    """
    weight = factor[:, None, None, None]
    return images.mul_(weight).add_(other * (1 - weight)).clamp_(0, 1)


def change_brightness(images: Float[Tensor, "n 3 H W"], factor: Float[Tensor, " n"]) -> Float[Tensor, "n 3 H W"]:
    """Towards black (0) or away from it (above 1)."""
    return images.mul_(factor[:, None, None, None]).clamp_(0, 1)


def change_contrast(images: Float[Tensor, "n 3 H W"], factor: Float[Tensor, " n"]) -> Float[Tensor, "n 3 H W"]:
    """Towards the view's mean luminance or away from it."""
    return blend(images, luminance(images).mean((2, 3), keepdim=True), factor)


def change_saturation(images: Float[Tensor, "n 3 H W"], factor: Float[Tensor, " n"]) -> Float[Tensor, "n 3 H W"]:
    """Towards grey or away from it."""
    return blend(images, luminance(images), factor)


def change_hue(images: Float[Tensor, "n 3 H W"], shift: Float[Tensor, " n"]) -> Float[Tensor, "n 3 H W"]:
    """Turned on the colour circle by `shift` of a full turn; largest and smallest channel of a pixel stay."""
    red, green, blue = images.unbind(1)
    high, low = images.amax(1), images.amin(1)
    chroma = high - low
    divisor = chroma.masked_fill(chroma == 0, 1)
    sector = torch.where(high == green, (blue - red).div_(divisor).add_(2), (red - green).div_(divisor).add_(4))
    sector = torch.where(high == red, (green - blue).div_(divisor), sector)
    sector.add_((6 * shift)[:, None, None])
    sector.sub_(sector.div(6).floor_().mul_(6))
    made = torch.empty_like(images)
    torch.sub((sector - 3).abs_(), 1, out=made[:, 0])
    torch.sub(2, (sector - 2).abs_(), out=made[:, 1])
    torch.sub(2, (sector - 4).abs_(), out=made[:, 2])
    return made.clamp_(0, 1).mul_(chroma[:, None]).add_(low[:, None])
