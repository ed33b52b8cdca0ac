"""Rotation of views by small angles."""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from smalldata_vit.data.choices import Choices, Numbers, Probability, between, happens, on_rows


class Rotation:
    """Rotation about the middle, bilinear; what was outside the view is black.

    Arguments:
        degrees: the angle is uniform in [-degrees, degrees], counter-clockwise.
        probability: for each view.
    """

    numbers = 2

    def __init__(self, degrees: float, probability: Probability = 1.0) -> None:
        self.degrees, self.probability = degrees, probability

    def draw(self, uniform: Numbers) -> Choices:
        """`on` (B, V), and the `matrix` of the rotation (B, V, 2, 2)."""
        angle = np.deg2rad(between(uniform[..., 1], -self.degrees, self.degrees))
        matrix = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], 2).reshape(*angle.shape, 2, 2)
        on = happens(uniform[..., 0], self.probability)
        return {"on": on, "matrix": torch.from_numpy(matrix.astype(np.float32))}

    def __call__(self, images: Float[Tensor, "n 3 H W"], choices: Choices) -> Float[Tensor, "n 3 H W"]:
        """Some of the views rotated."""
        return on_rows(images, choices["on"], rotated, choices["matrix"])

    def masked(self, images: Float[Tensor, "n 3 H W"], choices: Choices) -> Float[Tensor, "n 3 H W"]:
        """Some of the views rotated, computed for all with shapes that do not depend on the choices."""
        return torch.where(choices["on"][:, None, None, None], rotated(images, choices["matrix"]), images)


def rotated(images: Float[Tensor, "n 3 S S"], matrix: Float[Tensor, "n 2 2"]) -> Float[Tensor, "n 3 S S"]:
    """Square views; `matrix` takes an output place (x, y) to its source, both in [-1, 1]."""
    size = images.shape[-1]
    place = (torch.arange(size, dtype=torch.float32, device=images.device) * 2 + 1) / size - 1
    weights = matrix[:, None, None]
    x, y = place[None, None, :], place[None, :, None]
    # Sums of two products, written out: a batched product might round a row differently in another batch.
    source = [x * weights[..., row, 0] + y * weights[..., row, 1] for row in range(2)]
    return F.grid_sample(images, torch.stack(source, 3), mode="bilinear", padding_mode="zeros", align_corners=False)
