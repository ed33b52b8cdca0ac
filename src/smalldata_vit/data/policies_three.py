"""3-Augment (Touvron et al., "DeiT III: Revenge of the ViT", ECCV 2022)."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from smalldata_vit.data.blur import GaussianBlur
from smalldata_vit.data.choices import Choices, Numbers, Operation, moved
from smalldata_vit.data.colour import ColourJitter, Grayscale, Solarize


class ThreeAugment:
    """Each view grey, solarized or blurred, one of them at random, and then jittered in brightness, contrast and
    saturation. The crop before it and the mirror image are not its matter.

    Arguments:
        jitter: s, for factors uniform in [1 - s, 1 + s]; 0.3 in the paper.
        radius: range of the blur's standard deviation in pixels; 0.1 to 2 in the authors' code.
        threshold: of 0..255, from which values are inverted; 128.
    """

    def __init__(self, jitter: float, radius: Sequence[float] = (0.1, 2.0), threshold: float = 128) -> None:
        self.jitter, self.blur = ColourJitter(1.0, jitter, jitter, jitter, 0.0), GaussianBlur(1.0, radius)
        self.three: tuple[Operation, ...] = (Grayscale(1.0), Solarize(1.0, threshold), self.blur)
        self.numbers = 1 + self.blur.numbers + self.jitter.numbers

    def draw(self, uniform: Numbers) -> Choices:
        """`which` of the three (B, V), and what the blur and the jitter draw."""
        which = torch.from_numpy((uniform[..., 0] * len(self.three)).astype(np.int64))
        radius = self.blur.draw(uniform[..., 1:3])["radius"]
        return {"which": which, "radius": radius, **self.jitter.draw(uniform[..., 3:])}

    def __call__(self, images: Float[Tensor, "n 3 S S"], choices: Choices) -> Float[Tensor, "n 3 S S"]:
        """The changed views."""
        here = moved(choices, images.device)
        for number, change in enumerate(self.three):
            images = change(images, {"on": here["which"] == number, "radius": here["radius"]})
        return self.jitter(images, here)
