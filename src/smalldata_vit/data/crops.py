"""Where a view is cut from its picture, and how it is made from there."""

import math
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from numpy.typing import NDArray
from torch import Tensor

from smalldata_vit.contracts import Pictures, Ragged
from smalldata_vit.data.choices import Numbers, between, interval
from smalldata_vit.data.ragged import resize_ragged, whole
from smalldata_vit.data.resampling import Interpolation, resize_crops

MATRIX_PIXELS = 64
"""On a CPU, crops of pictures up to this side are resized together, by batched matrix products; those of larger ones
are resized one by one in 8 bits by torch, which reads only the pixels that count."""

TRIES = 10
"""Candidates for a box before the central one is taken, as in torchvision."""


Crops = Float[Tensor, "n 3 S S"] | UInt8[Tensor, "n 3 S S"]
"""Views as they were cut, n = B V: 0..255 where they were rounded to 8 bits, else 0..1; `values` makes both alike."""


def values(crops: Crops) -> Float[Tensor, "n 3 S S"]:
    """Crops as numbers from 0 to 1."""
    return crops.float().div_(255) if crops.dtype == torch.uint8 else crops


@runtime_checkable
class Crop(Protocol):
    """How the box of a view is drawn and its pixels are made."""

    @property
    def numbers(self) -> int:
        """Uniform numbers needed for a view."""

    def draw(self, uniform: Numbers, heights: NDArray, widths: NDArray, size: int) -> Float[Tensor, "B V 4"]:
        """Boxes (top, left, height, width) in pixels of pictures with these sizes, (B,) each."""

    def apart(self, pictures: Pictures, size: int) -> bool:
        """Whether pictures or crops are made one by one: then no graph of fixed shapes can hold it."""

    def __call__(
        self, pictures: Pictures, boxes: Float[Tensor, "B V 4"], flips: Bool[Tensor, "B V"], size: int
    ) -> Crops:
        """The views, mirrored where told."""


class RandomResizedCrop:
    """A box of random area and shape, resized to a square, with torchvision's distribution.

    Arguments:
        scale: range of the box's share of the picture's area.
        ratio: range of width over height, log-uniform.
        interpolation: `bicubic` or `bilinear`, both antialiased.
    """

    numbers = 2 * TRIES + 2

    def __init__(self, scale: Sequence[float], ratio: Sequence[float], interpolation: Interpolation) -> None:
        self.scale = interval("scale", scale, 0, 1)
        self.ratio = interval("ratio", ratio, 1e-3, 1e3)
        self.interpolation: Interpolation = interpolation

    def draw(self, uniform: Numbers, heights: NDArray, widths: NDArray, size: int) -> Float[Tensor, "B V 4"]:
        """The first of ten candidates that fits into the picture, else the central box of nearest shape."""
        tall, wide = heights[:, None, None].astype(np.float64), widths[:, None, None].astype(np.float64)
        area = tall * wide * between(uniform[..., :TRIES], *self.scale)
        shape = np.exp(between(uniform[..., TRIES : 2 * TRIES], math.log(self.ratio[0]), math.log(self.ratio[1])))
        width, height = np.rint(np.sqrt(area * shape)), np.rint(np.sqrt(area / shape))
        fits = (width > 0) & (width <= wide) & (height > 0) & (height <= tall)
        first = fits.argmax(2)[..., None]
        height, width = (np.take_along_axis(side, first, 2) for side in (height, width))
        top = np.floor(uniform[..., -2:-1] * (tall - height + 1))
        left = np.floor(uniform[..., -1:] * (wide - width + 1))
        drawn = np.concatenate([top, left, height, width], 2)
        boxes = np.where(fits.any(2, keepdims=True), drawn, self._central(tall, wide))
        return torch.from_numpy(boxes.astype(np.float32))

    def _central(self, tall: Numbers, wide: Numbers) -> Numbers:
        width = np.where(wide / tall > self.ratio[1], np.rint(tall * self.ratio[1]), wide)
        height = np.where(wide / tall < self.ratio[0], np.rint(wide / self.ratio[0]), tall)
        return np.concatenate([(tall - height) // 2, (wide - width) // 2, height, width], 2)

    def apart(self, pictures: Pictures, size: int) -> bool:
        """Of lists everywhere, and of large pictures on a CPU."""
        if isinstance(pictures, Tensor):
            return pictures.device.type == "cpu" and max(pictures.shape[-2:]) > MATRIX_PIXELS
        return not isinstance(pictures, Ragged)

    def __call__(
        self, pictures: Pictures, boxes: Float[Tensor, "B V 4"], flips: Bool[Tensor, "B V"], size: int
    ) -> Crops:
        """The views, mirrored where told."""
        if isinstance(pictures, Ragged):
            return resize_ragged(pictures, boxes, flips, size, self.interpolation)
        if boxes.device.type == "cpu" and self.apart(pictures, size):
            return resize_one_by_one(pictures, boxes, flips, size, self.interpolation)
        if isinstance(pictures, Tensor):
            return resize_crops(pictures, boxes, flips, size, self.interpolation)
        each = zip(pictures, boxes, flips, strict=True)
        return torch.cat([resize_crops(p[None], b[None], f[None], size, self.interpolation) for p, b, f in each])


def resize_one_by_one(
    pictures: Pictures, boxes: Float[Tensor, "B V 4"], flips: Bool[Tensor, "B V"], size: int, mode: Interpolation
) -> UInt8[Tensor, "n 3 S S"]:
    """Crops of pictures of any sizes by torch's 8-bit resize, rounded to 8 bits as Pillow does."""
    made = torch.empty((*flips.shape, 3, size, size), dtype=torch.uint8)
    each = zip(pictures, boxes.int().tolist(), flips.tolist(), made, strict=True)
    for picture, its_boxes, its_flips, crops in each:
        for (top, left, height, width), flip, crop in zip(its_boxes, its_flips, crops, strict=True):
            cut = picture[None, :, top : top + height, left : left + width]
            view = F.interpolate(cut, (size, size), mode=mode, antialias=True)[0]
            crop.copy_(view.flip(2) if flip else view)
    return made.flatten(0, 1)


class PaddedCrop:
    """The picture at the view's size, moved by up to `padding` pixels both ways; what was outside is black.

    Arguments:
        padding: pixels of the view; each shift from -padding to padding is equally likely.
        interpolation: used where the picture does not have the view's size yet.
    """

    numbers = 2

    def __init__(self, padding: int, interpolation: Interpolation = "bicubic") -> None:
        if padding < 0:
            raise ValueError(f"padding={padding} must not be negative")
        self.padding, self.interpolation = padding, interpolation

    def draw(self, uniform: Numbers, heights: NDArray, widths: NDArray, size: int) -> Float[Tensor, "B V 4"]:
        """The whole picture's box, moved; it may begin outside the picture."""
        shift = np.floor(uniform * (2 * self.padding + 1)) - self.padding
        sides = np.broadcast_to(np.stack([heights, widths], 1)[:, None], uniform.shape)
        return torch.from_numpy(np.concatenate([shift * sides / size, sides], 2).astype(np.float32))

    def apart(self, pictures: Pictures, size: int) -> bool:
        """Of lists, and of pictures that a CPU has to resize."""
        if isinstance(pictures, Tensor):
            return pictures.device.type == "cpu" and pictures.shape[-2:] != (size, size)
        return not isinstance(pictures, Ragged)

    def __call__(
        self, pictures: Pictures, boxes: Float[Tensor, "B V 4"], flips: Bool[Tensor, "B V"], size: int
    ) -> Crops:
        """The views, mirrored where told."""
        squares, pad = self._squares(pictures, size), self.padding
        padded = F.pad(squares, (pad,) * 4)
        shift = torch.round(boxes[..., :2] * (size / boxes[..., 2:])).long() + pad
        steps = torch.arange(size, device=boxes.device)
        across = torch.where(flips[..., None], size - 1 - steps, steps) + shift[..., 1:]
        down = steps + shift[..., :1]
        picture = torch.arange(len(boxes), device=boxes.device)[:, None, None, None, None]
        channel = torch.arange(3, device=boxes.device)[None, None, :, None, None]
        return padded[picture, channel, down[:, :, None, :, None], across[:, :, None, None, :]].flatten(0, 1)

    def _squares(self, pictures: Pictures, size: int) -> UInt8[Tensor, "B 3 S S"]:
        if isinstance(pictures, Tensor):
            return resized(pictures, (size, size), self.interpolation)
        if isinstance(pictures, Ragged):
            boxes = whole(pictures)
            upright = torch.zeros_like(boxes[..., 0], dtype=torch.bool)
            squares = resize_ragged(pictures, boxes, upright, size, self.interpolation)
            return squares.mul_(255).round_().to(torch.uint8)
        return torch.cat([resized(picture[None], (size, size), self.interpolation) for picture in pictures])


def resized(
    pictures: UInt8[Tensor, "B 3 H W"], sides: tuple[int, int], interpolation: Interpolation
) -> UInt8[Tensor, "B 3 h w"]:
    """Whole pictures at (height, width), antialiased, rounded to 8 bits."""
    if pictures.shape[-2:] == sides:
        return pictures
    if pictures.device.type == "cpu":
        return F.interpolate(pictures, sides, mode=interpolation, antialias=True)
    made = F.interpolate(pictures.float(), sides, mode=interpolation, antialias=True)
    return made.round_().clamp_(0, 255).to(torch.uint8)
