"""How images become what a stage trains on, and what evaluation sees: batched, each image with its own parameters."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from smalldata_vit.contracts import Pictures
from smalldata_vit.data.choices import Choices
from smalldata_vit.data.crops import resized
from smalldata_vit.data.groups import ViewGroup
from smalldata_vit.data.resampling import Interpolation

CHUNK_PIXELS = 2**17
"""Pixels of views that a CPU makes at a time, so that they stay in its cache; an accelerator makes all at once."""

ON_HOST = "policy"
"""These choices stay on the CPU: which images share an operation decides what is launched."""


@dataclass(frozen=True)
class Drawn:
    """The random choices for a global batch: for each group the parameters (B, V, …) of each operation, by name."""

    groups: Sequence[Mapping[str, Choices]]

    def take(self, places: slice) -> "Drawn":
        """Those of some places of the global batch."""
        return self._each(lambda name, value: value[places])

    def to(self, device: torch.device) -> "Drawn":
        """The same on a device, but for those that decide what is launched there."""
        return self._each(lambda name, value: value if name == ON_HOST else value.to(device, non_blocking=True))

    def _each(self, change: Callable[[str, Tensor], Tensor]) -> "Drawn":
        return Drawn(
            [
                {name: {key: change(name, value) for key, value in choices.items()} for name, choices in group.items()}
                for group in self.groups
            ]
        )


class AugmentedViews:
    """Random views of training images (a `contracts.Views`), float32, normalised.

    On the CPU the bits of an image's views depend only on its pixels and on (seed, step, place in the global batch),
    however a batch is cut into passes; on an accelerator matrix products may round differently for another cut.

    Arguments:
        groups: by name, in the order in which a method sees them.
        image_size: the stage's, pixels.
        mean, std: for each channel of values 0..1.
    """

    def __init__(
        self, groups: Mapping[str, ViewGroup], image_size: int, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        self.groups = {name: group for name, group in groups.items() if group.count > 0}
        if not self.groups:
            raise ValueError(f"no view of an image is left: the groups {list(groups)} all have count=0")
        self.sides = {name: group.side(image_size) for name, group in self.groups.items()}
        self.mean, self.std = per_channel(mean), per_channel(std)
        one = torch.tensor([image_size])
        self.draw(0, 0, one, one)  # what does not fit (a list of probabilities, say) is refused before training

    def draw(self, seed: int, step: int, heights: Int[Tensor, " B"], widths: Int[Tensor, " B"]) -> Drawn:
        """Choices for a global batch whose pictures have these sizes, on the CPU."""
        return Drawn(
            [
                group.draw((seed, "views", step, name), heights, widths, self.sides[name])
                for name, group in self.groups.items()
            ]
        )

    @torch.no_grad()
    def __call__(
        self, pictures: Pictures, drawn: Drawn
    ) -> tuple[list[Float[Tensor, "B _ 3 _ _"]], list[Float[Tensor, "B _ 4"]], list[Bool[Tensor, "B _"]]]:
        """Views, boxes (top, left, height, width in the picture) and flips, a list entry per group."""
        crops = [group["crop"] for group in drawn.groups]
        boxes, flips = [c["box"] for c in crops], [c["flip"] for c in crops]
        if len(pictures) != len(boxes[0]):
            raise ValueError(f"{len(pictures)} pictures, but choices were drawn for {len(boxes[0])}")
        with full_precision(boxes[0].device):
            views = [self._group(name, pictures, d) for name, d in zip(self.groups, drawn.groups, strict=True)]
        return views, boxes, flips

    def _group(self, name: str, pictures: Pictures, drawn: Mapping[str, Choices]) -> Float[Tensor, "B V 3 S S"]:
        group, side, device = self.groups[name], self.sides[name], drawn["crop"]["box"].device
        mean, std = self.mean.to(device), self.std.to(device)
        whole = len(pictures)
        step = max(1, CHUNK_PIXELS // (group.count * side * side)) if device.type == "cpu" else whole
        made = torch.empty(whole, group.count, 3, side, side, device=device)
        for first in range(0, whole, step):
            some = slice(first, first + step)
            choices = {op: {key: value[some] for key, value in c.items()} for op, c in drawn.items()}
            made[some] = group.make(pictures[some], choices, side, mean, std).unflatten(0, (-1, group.count))
        return made


class PlainView:
    """What evaluation sees: resized, the middle cut out, normalised.

    Arguments:
        image_size: side of the result, pixels.
        mean, std: for each channel of values 0..1.
        resize_ratio: side before the cut over `image_size` (IDMM: 256/224).
        interpolation: antialiased, rounded to 8 bits.
        mode: `squash` makes a square of the picture; `shorter` resizes its shorter side and keeps its shape.
    """

    def __init__(
        self,
        image_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        resize_ratio: float = 1.0,
        interpolation: Interpolation = "bicubic",
        mode: Literal["squash", "shorter"] = "squash",
    ) -> None:
        if resize_ratio < 1:
            raise ValueError(f"resize_ratio={resize_ratio} is below 1: the cut would be larger than the picture")
        self.image_size, self.shorter = image_size, round(image_size * resize_ratio)
        self.interpolation: Interpolation = interpolation
        self.mode, self.mean, self.std = mode, per_channel(mean), per_channel(std)

    @torch.no_grad()
    def __call__(self, pictures: Pictures) -> Float[Tensor, "B 3 S S"]:
        """The pictures, float32, on their device."""
        if isinstance(pictures, Tensor):
            seen = self._middle(pictures)
        else:
            seen = torch.cat([self._middle(picture[None]) for picture in pictures])
        return seen.float().div_(255).sub_(self.mean.to(seen.device)).div_(self.std.to(seen.device))

    def _middle(self, pictures: UInt8[Tensor, "B 3 H W"]) -> UInt8[Tensor, "B 3 S S"]:
        height, width = pictures.shape[-2:]
        longer = int(self.shorter * max(height, width) / min(height, width)) if self.mode == "shorter" else self.shorter
        sides = (longer, self.shorter) if height > width else (self.shorter, longer)
        whole = resized(pictures, sides, self.interpolation)
        top, left = (round((side - self.image_size) / 2) for side in sides)
        return whole[..., top : top + self.image_size, left : left + self.image_size]


def per_channel(values: Sequence[float]) -> Float[Tensor, "3 1 1"]:
    """Numbers of the three channels, ready to be broadcast; ValueError if there are not three."""
    if len(values) != 3:
        raise ValueError(f"mean and std need a number for each of the three channels, not {list(values)}")
    return torch.tensor(list(values), dtype=torch.float32)[:, None, None]


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """No autocast, no TF32: views are made in float32 wherever they are made."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
