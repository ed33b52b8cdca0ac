"""What raw pixels reach without any network: a support vector machine at several numbers of labels per class."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from sklearn.svm import SVC
from torch import Tensor

SIDE = 32
"""Larger or differing pictures are brought to this side, in pixels: the kernel's cost grows with their area."""
CHOICES_C = (1.0, 10.0, 100.0)
CHOICES_WIDTH = (0.25, 0.5, 1.0, 2.0)
"""Multiples of scikit-learn's gamma="scale", 1 / (number of pixels · variance of the training pixels)."""
DEFAULT = (10.0, 1.0)
"""C and width where there is no validation split to choose them on."""


@dataclass(frozen=True)
class PixelBaseline:
    """Accuracies by `accuracy@n`, and what was used for each n: C, gamma, training images."""

    metrics: dict[str, float]
    recorded: dict[str, dict[str, int | float]]


def svm_on_pixels(
    train: tuple[Float[np.ndarray, "N P"], Int[np.ndarray, " N"]],
    place: Int[np.ndarray, " N"],
    validation: tuple[Float[np.ndarray, "M P"], Int[np.ndarray, " M"]] | None,
    test: tuple[Float[np.ndarray, "Q P"], Int[np.ndarray, " Q"]],
    labels_per_class: Sequence[int],
    most_images: int,
) -> PixelBaseline:
    """Test accuracy of an RBF machine fitted to the first n images of each class, and to `all`.

    Splits are (pixels 0..1 as made by `flat`, labels). `place` is each training image's place in the labelling order
    of its class. C and gamma are chosen on the validation split for each n, never on the test split. An n above the
    largest class, and a subset of more than `most_images` (the fit costs their square), is left out.
    """
    pixels, label = train
    sizes = [n for n in labels_per_class if n <= np.bincount(label).max()]
    subsets = {str(n): place < n for n in sizes} | {"all": np.ones(len(label), bool)}
    metrics, recorded = {}, {}
    for n, keep in subsets.items():
        if keep.sum() > most_images:
            continue
        fitted = _fitted((pixels[keep], label[keep]), validation)
        metrics[f"accuracy@{n}"] = float(np.mean(fitted.predict(test[0]) == test[1]))
        recorded[n] = {"C": float(fitted.C), "gamma": float(fitted.gamma), "images": int(keep.sum())}
    return PixelBaseline(metrics, recorded)


def flat(pictures: UInt8[Tensor, "N 3 H W"] | Sequence[UInt8[Tensor, "3 _ _"]]) -> Float[np.ndarray, "N P"]:
    """Pixels of each picture in a row, float32 in 0..1; pictures that differ or exceed 32 pixels are made 32 x 32."""
    if isinstance(pictures, Tensor) and max(pictures.shape[-2:]) <= SIDE:
        return pictures.cpu().contiguous().flatten(1).float().numpy() / 255
    return np.concatenate([_small(picture.cpu()) for picture in pictures])


def _small(picture: Tensor) -> Float[np.ndarray, "1 P"]:
    small = F.interpolate(picture[None].float(), size=(SIDE, SIDE), mode="bilinear", antialias=True)
    return small.flatten(1).numpy() / 255


def _fitted(
    train: tuple[Float[np.ndarray, "N P"], Int[np.ndarray, " N"]],
    validation: tuple[Float[np.ndarray, "M P"], Int[np.ndarray, " M"]] | None,
) -> SVC:
    """The machine that is most accurate on the validation split; the first of equals."""
    scale = 1 / (train[0].shape[1] * max(float(train[0].var()), 1e-12))
    choices = [(c, width) for c in CHOICES_C for width in CHOICES_WIDTH] if validation is not None else [DEFAULT]
    machines = [SVC(C=c, gamma=width * scale).fit(*train) for c, width in choices]
    if validation is None:
        return machines[0]
    return max(machines, key=lambda machine: float(np.mean(machine.predict(validation[0]) == validation[1])))
