"""Random choices of augmentations: from uniform numbers, a fixed count of them for each view, to parameters.

A view's numbers stand in a row of their own, so its parameters depend on nothing but (seed, step, place).
"""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from numpy.typing import NDArray
from torch import Tensor

Choices = dict[str, Tensor]
"""Named parameters of one operation, (B, V, …) as drawn, (n, …) with n = B V as applied."""

HOST = "host_"
"""Choices whose names begin so stay on the CPU: they decide what is launched."""

Numbers = NDArray[np.float64]
"""Uniform in [0, 1), (B, V, k)."""

Probability = float | Sequence[float]
"""Of being applied: one number, or one for each view of the group."""


@runtime_checkable
class Operation(Protocol):
    """Something done to views, with parameters of its own for each."""

    @property
    def numbers(self) -> int:
        """Uniform numbers needed for a view."""

    def draw(self, uniform: Numbers) -> Choices:
        """Parameters (B, V, …) on the CPU."""

    def __call__(self, images: Float[Tensor, "n 3 H W"], choices: Choices) -> Float[Tensor, "n 3 H W"]:
        """The changed views, values 0..1; may write into `images`."""


def moved(choices: Choices, device: torch.device) -> Choices:
    """Choices on a device, but for those of the host; from pinned memory, so that an accelerator is not waited for."""

    def there(value: Tensor) -> Tensor:
        if value.device == device:
            return value
        return (value.pin_memory() if device.type == "cuda" else value).to(device, non_blocking=True)

    return {name: value if name.startswith(HOST) else there(value) for name, value in choices.items()}


def chances(probability: Probability, views: int) -> Numbers:
    """The probability of each view of a group, (V,); ValueError if the list does not fit the group."""
    given = np.asarray(probability, dtype=np.float64)
    if given.ndim > 1 or (given.ndim == 1 and len(given) != views):
        raise ValueError(f"probability={probability} names {given.size} views, but the group has {views}")
    if ((given < 0) | (given > 1)).any():
        raise ValueError(f"probability={probability} is not between 0 and 1")
    return np.broadcast_to(given, (views,))


def happens(uniform: Numbers, probability: Probability) -> Bool[Tensor, "B V"]:
    """Which views an operation is applied to, from one number each, (B, V)."""
    return torch.from_numpy(uniform < chances(probability, uniform.shape[1]))


def between(uniform: Numbers, low: float, high: float) -> Numbers:
    """Uniform in [low, high)."""
    return low + (high - low) * uniform


def interval(name: str, given: Sequence[float], low: float, high: float) -> tuple[float, float]:
    """`given` as a pair in order within [low, high]; ValueError names the argument."""
    if len(given) != 2 or not low <= given[0] <= given[1] <= high:
        raise ValueError(f"{name}={list(given)} must be two numbers in order, from {low:g} to {high:g}")
    return float(given[0]), float(given[1])


def takes_rows(device: torch.device) -> bool:
    """Whether only the rows an operation is meant for are computed.

    True on the CPU, where it saves arithmetic; an accelerator would have to be asked how many rows there are, and
    computes all of them without waiting.
    """
    return device.type == "cpu"


def on_rows(
    images: Float[Tensor, "n 3 H W"],
    on: Bool[Tensor, " n"],
    change: Callable[..., Float[Tensor, "_ 3 H W"]],
    *parameters: Shaped[Tensor, "n ..."],
) -> Float[Tensor, "n 3 H W"]:
    """`change(images, *parameters)` in the rows where `on`; on the CPU written into `images`."""
    if not takes_rows(images.device):
        return torch.where(on[:, None, None, None], change(images.clone(), *parameters), images)
    rows = on.nonzero()[:, 0]
    if len(rows) == len(images):
        return change(images, *parameters)
    if len(rows):
        images.index_copy_(0, rows, change(images.index_select(0, rows), *(p[rows] for p in parameters)))
    return images
