"""From what a policy has drawn to changed views: rows that share an operation go through one call, whatever their
magnitudes.

How many rows an operation has is counted on the CPU, where it was drawn; which ones they are is found by a sort where
the images are. So an accelerator is never asked for a number.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from numpy.typing import NDArray
from torch import Tensor

from smalldata_vit.data.choices import HOST, Choices, Numbers, moved

OPERATIONS = (
    "Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast",
    "Sharpness", "Posterize", "Solarize", "SolarizeAdd", "AutoContrast", "Equalize", "Invert", "Cutout",
)  # fmt: skip
"""The names that publications give."""

INTERPOLATIONS = ("nearest", "bilinear", "bicubic")
KERNELS = ("Identity", *INTERPOLATIONS, *OPERATIONS[6:])
"""What is called for them: the geometric operations differ in their matrices alone."""

Arithmetic = Literal["torchvision", "pillow"]
CENTRES: dict[Arithmetic, tuple[float, float, int]] = {"torchvision": (-0.5, 0, 1), "pillow": (0, 0.5, -1)}

WIDTH = 10
Change = Callable[[UInt8[Tensor, "m 3 S S"], str, Float[Tensor, "m 10"]], UInt8[Tensor, "m 3 S S"]]
"""`change(images, kernel, parameters)`: some views after one kernel. Columns of `parameters`, float64:

0 amount: a factor (Brightness, Color, Contrast, Sharpness), bits kept, a threshold, a summand, a side in pixels;
1-4 a, b, d, e: the place (x, y) of a pixel comes from (a x + b y + c, d x + e y + f);
5-6 shift to the right and down as shares of the side (Cutout: its centre); 7-8 the same in pixels;
9 the fixed point of the map on the diagonal, as a share of the side, from where pixels are counted.
"""


@dataclass(frozen=True)
class Named:
    """What a policy has drawn for each view and layer, (B, V, k).

    Arguments:
        operation: place in `OPERATIONS`.
        magnitude: with sign; a slope, a share of the side, degrees counter-clockwise, a factor's distance from 1, bits
            kept, a threshold, a summand or a side in pixels.
        interpolation: place in `INTERPOLATIONS`, of geometric operations.
        centre: of a Cutout, uniform in [0, 1), (B, V, k, 2).
        pixels: translations are in pixels, not in shares.
    """

    operation: NDArray[np.int64]
    magnitude: Numbers
    interpolation: NDArray[np.int64]
    centre: Numbers | None = None
    pixels: bool = False


def number(*names: str) -> NDArray[np.int64]:
    """The places of some operations in `OPERATIONS`."""
    return np.array([OPERATIONS.index(name) for name in names], dtype=np.int64)


def planned(named: Named, arithmetic: Arithmetic) -> Choices:
    """`kernel` (B, V, k), the same for the host, and `parameters` (B, V, k, 10) as `Change` has them.

    torchvision counts pixels from the middle and shears about a corner, and a positive translation is to the right;
    Pillow counts from a corner and rotates about the middle, and a positive translation is where pixels come from.
    """
    shear_centre, rotation_centre, towards = CENTRES[arithmetic]
    operation, size = named.operation, named.magnitude
    shear_x, shear_y, right, down, rotate = (operation == OPERATIONS.index(name) for name in OPERATIONS[1:6])
    geometric = (operation >= 1) & (operation <= 5)
    factor = (operation >= OPERATIONS.index("Brightness")) & (operation <= OPERATIONS.index("Sharpness"))
    angle = np.deg2rad(np.where(rotate, size, 0))
    cosine, sine = np.round(np.cos(angle), 15), np.round(np.sin(angle), 15)
    parameters = np.zeros((*operation.shape, WIDTH))
    parameters[..., 0] = np.where(factor, 1 + size, size)
    parameters[..., 1] = parameters[..., 4] = cosine
    parameters[..., 2] = np.where(shear_x, size, -sine)
    parameters[..., 3] = np.where(shear_y, size, sine)
    first = 7 if named.pixels else 5
    parameters[..., first], parameters[..., first + 1] = (np.where(to, towards * size, 0) for to in (right, down))
    if named.centre is not None:
        cut = (operation == OPERATIONS.index("Cutout"))[..., None]
        parameters[..., 5:7] = np.where(cut, named.centre, parameters[..., 5:7])
    parameters[..., 9] = np.where(shear_x | shear_y, shear_centre, np.where(rotate, rotation_centre, 0))
    kernel = torch.from_numpy(np.where(geometric, 1 + named.interpolation, np.maximum(operation - 2, 0)))
    return {"kernel": kernel, HOST + "kernel": kernel, "parameters": torch.from_numpy(parameters)}


def apply_policy(images: Float[Tensor, "n 3 S S"], choices: Choices, change: Change) -> Float[Tensor, "n 3 S S"]:
    """The views, rounded to 8 bits, after the operations of all layers, one layer after the other."""
    counts = [count_kernels(layer) for layer in choices[HOST + "kernel"].unbind(1)]
    here = moved(choices, images.device)
    order, parameters = here["kernel"].argsort(stable=True, dim=0), here["parameters"]
    back = order.argsort(dim=0)
    made = images.mul(255).round_().to(torch.uint8)
    for layer, sizes in enumerate(counts):
        rows = order[:, layer]
        before = made.index_select(0, rows).split(sizes)
        amounts = parameters[:, layer].index_select(0, rows).split(sizes)
        after = [
            change(some, kernel, amount) if kernel != "Identity" and len(some) else some
            for some, kernel, amount in zip(before, KERNELS, amounts, strict=True)
        ]
        made = torch.cat(after).index_select(0, back[:, layer])
    return made.float().div_(255)


def count_kernels(kernel: Int[Tensor, " n"]) -> list[int]:
    """How many rows each kernel has; `kernel` lies on the CPU."""
    return [int(count) for count in np.bincount(kernel.numpy(), minlength=len(KERNELS))]
