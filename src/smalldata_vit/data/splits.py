"""What a dataset becomes: its splits, what is known of them, and the values that a config gives for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from jaxtyping import Int
from torch import Tensor

from smalldata_vit.data.images import Images

Channels = tuple[float, float, float]
Validation = Literal["carved", "own", "none", "test"]
"""Images carved from the training images, the set's own, none at all, or the test images."""


@dataclass(frozen=True, eq=False)
class Splits:
    """What a stage trains on and is judged by."""

    train: Images
    val: Images | None
    test: Images | None
    place: Int[Tensor, " N"]
    """Place of each training image in the labelling order of its class; it depends on the seed."""
    labelled: Int[Tensor, " M"]
    """Training images whose labels may be read, ascending."""
    num_classes: int
    mean: Channels
    std: Channels
    split_hash: str
    """sha256 of the images and labels of all splits: what a stage was trained on, wherever the files lie."""
    record: dict[str, Any]
    """Which images went where and why, as plain values."""
    validation: Validation
    """What judges while a stage trains. With `test` it is the test images, and `val` is None, so that nothing is fitted
    to them."""


def validation_share(value: float | str) -> float:
    """The share that is carved out, 0 for `none` and `test`."""
    if value in ("none", "test"):
        return 0.0
    if isinstance(value, str) or not 0 < value < 1:
        raise ValueError(
            f"dataset.validation={value}: it is a share between 0 and 1, or none, or test (a published protocol in "
            "which the test images judge during training too)"
        )
    return float(value)


def three(name: str, values: Sequence[float]) -> Channels:
    """One number per channel of RGB."""
    if len(values) != 3:
        raise ValueError(
            f"dataset.{name} has {len(values)} values; images are RGB, so it has three (or null: measured)"
        )
    red, green, blue = (float(v) for v in values)
    return red, green, blue
