"""Common corruptions by noise: Gaussian, shot and impulse. Hendrycks and Dietterich, ICLR 2019, arXiv:1903.12261.

Here and in the other files of corruptions: images are float32 in 0..1 and so are results, not yet rounded; each image
has a generator of its own, which alone decides its randomness.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

Generators = Sequence[np.random.Generator]
"""One for each image."""


def drawn(draws: Generators, one: Callable[[np.random.Generator], np.ndarray], device: torch.device) -> Tensor:
    """What `one` draws for each image, stacked, float32 on the device."""
    return torch.from_numpy(np.stack([one(draw) for draw in draws]).astype(np.float32)).to(device)


def gaussian_noise(images: Float[Tensor, "B 3 H W"], level: float, draws: Generators) -> Float[Tensor, "B 3 H W"]:
    """x + N(0, level²), for each value alone."""
    shape = images.shape[1:]
    noise = drawn(draws, lambda draw: draw.standard_normal(shape, dtype=np.float32), images.device)
    return (images + level * noise).clamp(0, 1)


def shot_noise(images: Float[Tensor, "B 3 H W"], level: float, draws: Generators) -> Float[Tensor, "B 3 H W"]:
    """Poisson(level · x) / level."""
    expected = images.double().cpu().numpy() * level
    counted = np.stack([draw.poisson(e) for draw, e in zip(draws, expected, strict=True)]) / level
    return torch.from_numpy(counted).float().clamp(0, 1).to(images.device)


def impulse_noise(images: Float[Tensor, "B 3 H W"], level: float, draws: Generators) -> Float[Tensor, "B 3 H W"]:
    """Salt and pepper: each value of each channel becomes 1 or 0 with chance level / 2 each."""
    shape = images.shape[1:]
    chance = drawn(draws, lambda draw: draw.random(shape), images.device)
    return torch.where(chance < level / 2, 0.0, torch.where(chance < level, 1.0, images))
