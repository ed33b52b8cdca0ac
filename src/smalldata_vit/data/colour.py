"""Colour of views: jitter of brightness, contrast, saturation and hue in random order, grey, solarize.

The arithmetic is torchvision's on float images: values 0..1, clamped after each step, not rounded to 8 bits. Each
operation has two forms: called, it computes the rows that it is meant for; `masked` computes all of them with shapes
that do not depend on the choices, and never asks the device.
"""

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from smalldata_vit.data.choices import Choices, Numbers, Probability, between, happens, on_rows
from smalldata_vit.data.colour_changes import (
    change_brightness,
    change_contrast,
    change_hue,
    change_saturation,
    luminance,
    on_each,
)

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
NOTHING = -1

LARGE = 64
"""Above this side a CPU changes views one by one: each fits its cache, and none is gathered and put back."""


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

        `weights` (B, V, 6, 3) say the same in numbers, as `blend_weights` makes them.
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
        factors = (low + (1 + np.array(self.strengths[:3]) - low) * uniform[..., 5:8]).astype(np.float32)
        shift = between(uniform[..., 8], -self.strengths[3], self.strengths[3]).astype(np.float32)
        on = happens(uniform[..., 0], self.probability)
        return {
            "on": on,
            "factors": torch.from_numpy(factors),
            "shift": torch.from_numpy(shift),
            "slots": torch.from_numpy(slots.astype(np.int64)),
            "weights": torch.from_numpy(blend_weights(np.where(on.numpy()[..., None], slots, NOTHING), factors)),
        }

    def __call__(self, images: Float[Tensor, "n 3 H W"], choices: Choices) -> Float[Tensor, "n 3 H W"]:
        """The jittered views."""
        factors, slots = choices["factors"], choices["slots"].masked_fill(~choices["on"][:, None], NOTHING)
        changes = (change_brightness, change_contrast, change_saturation)
        apply = on_each if images.device.type == "cpu" and images.shape[-1] > LARGE else on_rows
        for slot in range(6):
            if slot == 3 and self.strengths[HUE] > 0:
                images = apply(images, choices["on"], change_hue, choices["shift"])
            for change in (BRIGHTNESS, CONTRAST, SATURATION):
                if self.strengths[change] > 0:
                    images = apply(images, slots[:, slot] == change, changes[change], factors[:, change])
        return images

    def masked(self, images: Float[Tensor, "n 3 H W"], choices: Choices) -> Float[Tensor, "n 3 H W"]:
        """The jittered views: three blends, one change of hue, three blends, each in all rows."""
        on, weights = choices["on"][:, None, None, None], choices["weights"][..., None, None, None]
        for slot in range(6):
            if slot == 3 and self.strengths[HUE] > 0:
                images = torch.where(on, change_hue(images, choices["shift"]), images)
            if max(self.strengths[:3]) > 0:
                images = self._blended(images, *weights[:, slot].unbind(1))
        return images

    def _blended(
        self, images: Float[Tensor, "n 3 H W"], own: Tensor, grey: Tensor, mean: Tensor
    ) -> Float[Tensor, "n 3 H W"]:
        """A sum of the views, their luminance and its mean with these weights, (n, 1, 1, 1) each; clamped."""
        made, light = images * own, luminance(images)
        if self.strengths[SATURATION] > 0:
            made = made + light * grey
        if self.strengths[CONTRAST] > 0:
            made = made + light.mean((2, 3), keepdim=True) * mean
        return made.clamp(0, 1)


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

    def masked(self, images: Float[Tensor, "n 3 H W"], choices: Choices) -> Float[Tensor, "n 3 H W"]:
        """Some of the views in grey, computed for all."""
        return torch.where(choices["on"][:, None, None, None], luminance(images), images)


class Solarize:
    """Values from `threshold` (of 0..255) on are inverted."""

    numbers = 1

    def __init__(self, probability: Probability, threshold: float) -> None:
        self.probability = probability
        self.limit = (threshold - 0.5) / 255  # between two 8-bit values: rounding of the division cannot matter

    def draw(self, uniform: Numbers) -> Choices:
        """`on` (B, V)."""
        return {"on": happens(uniform[..., 0], self.probability)}

    def __call__(self, images: Float[Tensor, "n 3 H W"], choices: Choices) -> Float[Tensor, "n 3 H W"]:
        """Some of the views solarized."""
        return on_rows(images, choices["on"], lambda chosen: torch.where(chosen >= self.limit, 1 - chosen, chosen))

    def masked(self, images: Float[Tensor, "n 3 H W"], choices: Choices) -> Float[Tensor, "n 3 H W"]:
        """Some of the views solarized, computed for all."""
        return torch.where(choices["on"][:, None, None, None] & (images >= self.limit), 1 - images, images)


def blend_weights(slots: NDArray[np.int64], factors: NDArray[np.float32]) -> NDArray[np.float32]:
    """What a view, its luminance and its mean luminance count in each slot, (B, V, 6, 3); (1, 0, 0) for nothing."""
    factor = np.where(slots == NOTHING, 1, np.take_along_axis(factors, np.maximum(slots, 0), 2))
    rest = 1 - factor
    parts = [factor, np.where(slots == SATURATION, rest, 0), np.where(slots == CONTRAST, rest, 0)]
    return np.stack(parts, 3).astype(np.float32)
