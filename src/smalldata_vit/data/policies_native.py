"""Policies in Pillow's arithmetic made by Pillow itself, view after view: the same bits as in a batch.

For views above `policies_arithmetic.BATCHED_SIDE` on a CPU.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from smalldata_vit.data.choices import HOST, Choices
from smalldata_vit.data.policies_geometry import affine
from smalldata_vit.data.policies_plan import INTERPOLATIONS, KERNELS

Colour = Sequence[int]


def apply_natively(
    images: Float[Tensor, "n 3 S S"], choices: Choices, fill: Colour, cutout_fill: Colour
) -> Float[Tensor, "n 3 S S"]:
    """The views, rounded to 8 bits, after the operations of all layers; images and choices lie on the CPU."""
    size, parameters = images.shape[-1], choices["parameters"]
    kernels = choices[HOST + "kernel"].tolist()
    maps = [torch.cat([*x, *y], 2)[:, 0].tolist() for x, y in (affine(p, size, False) for p in parameters.unbind(1))]
    amounts, centres = parameters[..., 0].tolist(), parameters[..., 5:7].tolist()
    made = images.mul(255).round_().to(torch.uint8)
    for row, view in enumerate(made):
        if any(kernels[row]):
            picture = Image.merge("RGB", [Image.fromarray(channel) for channel in view.numpy()])
            for layer, kernel in enumerate(kernels[row]):
                where = maps[layer][row] if 1 <= kernel <= len(INTERPOLATIONS) else centres[row][layer]
                picture = changed(picture, KERNELS[kernel], amounts[row][layer], where, fill, cutout_fill)
            view.copy_(torch.from_numpy(np.array(picture)).permute(2, 0, 1))
    return made.float().div_(255)


def changed(
    picture: Image.Image, kernel: str, amount: float, where: Sequence[float], fill: Colour, cutout_fill: Colour
) -> Image.Image:
    """A picture after one kernel; `where` is the map of a geometric one, else the centre of a Cutout."""
    match kernel:
        case "nearest" | "bilinear" | "bicubic":
            resample = Image.Resampling[kernel.upper()]
            return picture.transform(picture.size, Image.Transform.AFFINE, where, resample, fillcolor=tuple(fill))
        case "Brightness" | "Color" | "Contrast" | "Sharpness":
            return ENHANCED[kernel](picture).enhance(amount)
        case "Posterize":
            return ImageOps.posterize(picture, int(amount))
        case "Solarize":
            return ImageOps.solarize(picture, int(np.ceil(np.float32(amount))))
        case "SolarizeAdd":
            return picture.point([min(255, v + int(amount)) if v < 128 else v for v in range(256)] * 3)
        case "AutoContrast":
            return ImageOps.autocontrast(picture)
        case "Equalize":
            return ImageOps.equalize(picture)
        case "Invert":
            return ImageOps.invert(picture)
        case "Cutout":
            x, y, half = int(where[0] * picture.width), int(where[1] * picture.height), int(amount) // 2
            picture.paste(tuple(cutout_fill), (max(0, x - half), max(0, y - half), x + half, y + half))
    return picture


ENHANCED = {
    "Brightness": ImageEnhance.Brightness,
    "Color": ImageEnhance.Color,
    "Contrast": ImageEnhance.Contrast,
    "Sharpness": ImageEnhance.Sharpness,
}
