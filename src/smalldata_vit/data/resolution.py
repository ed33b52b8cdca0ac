"""In what resolution a dataset's images are kept and handed on, and how JPEG files get there."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from smalldata_vit.data.decode import POLICY, shrunk, shrunk_size
from smalldata_vit.data.sources import Opened

Reader = Callable[[int], tuple[np.ndarray, int]]
"""Picture uint8 (height, width, 3) in its final size, and label, of one image of a split."""


@dataclass(frozen=True)
class Shrinking:
    """Reads an image and makes it smaller; it can be sent to another process.

    Arguments:
        item: reads the image as it is.
        shorter_side: larger images get this many pixels there; None: they stay as they are.
    """

    item: Reader
    shorter_side: int | None

    def __call__(self, i: int) -> tuple[np.ndarray, int]:
        """Picture and label."""
        picture, label = self.item(i)
        return (picture if self.shorter_side is None else shrunk(picture, self.shorter_side)), label


@dataclass(frozen=True)
class Resolution:
    """What is kept of an image.

    Arguments:
        shorter_side: larger images are kept with this many pixels there; None: as they are.
        scaled_jpeg: JPEG files that have to become smaller are decoded at 1/2, 1/4 or 1/8 of their size, the least
            that is still large enough, and resized from there: several times faster, and slightly other pixels.
    """

    shorter_side: int | None = None
    scaled_jpeg: bool = False

    def __post_init__(self) -> None:
        if self.shorter_side is not None and self.shorter_side < 1:
            raise ValueError(f"dataset.shorter_side={self.shorter_side}: it is a number of pixels, or null")
        if self.scaled_jpeg and self.shorter_side is None:
            raise ValueError(
                "dataset.scaled_jpeg=true decodes for a smaller size: it needs dataset.shorter_side=PIXELS"
            )

    @property
    def key(self) -> str:
        """Differs where pixels differ."""
        return f"{POLICY}:{self.shorter_side}{':scaled' if self.scaled_jpeg else ''}"

    def reader(self, opened: Opened) -> Reader:
        """Reads the images of a split so; ValueError where its source cannot decode at a smaller size."""
        if not self.scaled_jpeg or self.shorter_side is None:
            return Shrinking(opened.item, self.shorter_side)
        if opened.image_files is None:
            raise ValueError(
                "dataset.scaled_jpeg=true needs image files that we decode ourselves; this source hands pictures over "
                "decoded: dataset.scaled_jpeg=false, or its files as class folders with dataset.layout=folder"
            )
        return partial(opened.image_files.scaled, shorter_side=self.shorter_side)

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width in this resolution of an image that has these."""
        return (height, width) if self.shorter_side is None else shrunk_size(height, width, self.shorter_side)
