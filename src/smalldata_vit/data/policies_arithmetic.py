"""The kernels of a policy in two arithmetics: torchvision's on tensors, and Pillow's, which timm and the published
codes use."""

from collections.abc import Sequence
from functools import partial

from jaxtyping import Float, UInt8
from torch import Tensor

from smalldata_vit.data import policies_colour as colour
from smalldata_vit.data import policies_geometry as geometry
from smalldata_vit.data.choices import Choices
from smalldata_vit.data.policies_native import apply_natively
from smalldata_vit.data.policies_plan import apply_policy

BATCHED_SIDE = 32
"""On a CPU, views up to this side are made in batches, larger ones by Pillow itself, which has the same bits."""


def apply_as_torchvision(
    images: Float[Tensor, "n 3 S S"], choices: Choices, fill: Sequence[int]
) -> Float[Tensor, "n 3 S S"]:
    """The views after the operations of all layers: the bits that torchvision's functions make of each as a tensor."""
    return apply_policy(images, choices, partial(as_torchvision, fill=fill))


def apply_as_pillow(
    images: Float[Tensor, "n 3 S S"], choices: Choices, fill: Sequence[int], cutout_fill: Sequence[int] = (0, 0, 0)
) -> Float[Tensor, "n 3 S S"]:
    """The views after the operations of all layers: the bits that Pillow makes of each."""
    if images.device.type == "cpu" and images.shape[-1] > BATCHED_SIDE:
        return apply_natively(images, choices, fill, cutout_fill)
    return apply_policy(images, choices, partial(as_pillow, fill=fill, cutout_fill=cutout_fill))


def as_torchvision(
    images: UInt8[Tensor, "m 3 S S"], kernel: str, parameters: Float[Tensor, "m 10"], fill: Sequence[int]
) -> UInt8[Tensor, "m 3 S S"]:
    """Views after one kernel, as torchvision's functions make it of a tensor."""
    amount = parameters[:, 0]
    match kernel:
        case "nearest" | "bilinear":
            return geometry.warp_as_torchvision(images, parameters, kernel, fill)
        case "Color":
            return colour.blend_as_torchvision(images, colour.grey_as_torchvision(images), amount)
        case "Contrast":
            mean = colour.mean_of(colour.grey_as_torchvision(images)).float()
            return colour.blend_as_torchvision(images, mean, amount)
        case "Sharpness":
            return colour.blend_as_torchvision(images, colour.smoothed(images), amount)
        case "AutoContrast":
            return colour.stretched_as_torchvision(images)
    return as_both(images, kernel, amount)


def as_pillow(
    images: UInt8[Tensor, "m 3 S S"],
    kernel: str,
    parameters: Float[Tensor, "m 10"],
    fill: Sequence[int],
    cutout_fill: Sequence[int],
) -> UInt8[Tensor, "m 3 S S"]:
    """Views after one kernel, as Pillow makes it."""
    amount = parameters[:, 0]
    match kernel:
        case "nearest":
            return geometry.nearest_as_pillow(images, parameters, fill)
        case "bilinear" | "bicubic":
            return geometry.smooth_as_pillow(images, parameters, kernel == "bicubic", fill)
        case "Color":
            return colour.blend_as_pillow(images, colour.grey_as_pillow(images), amount)
        case "Contrast":
            mean = (colour.mean_of(colour.grey_as_pillow(images)) + 0.5).floor()
            return colour.blend_as_pillow(images, mean, amount)
        case "Sharpness":
            return colour.blend_as_pillow(images, colour.smoothed(images), amount)
        case "AutoContrast":
            return colour.stretched_as_pillow(images)
        case "SolarizeAdd":
            return colour.raised_below_128(images, amount)
        case "Cutout":
            return colour.cut_out(images, amount, parameters[:, 5:7], geometry.filled(cutout_fill, images))
    return as_both(images, kernel, amount)


def as_both(images: UInt8[Tensor, "m 3 S S"], kernel: str, amount: Float[Tensor, " m"]) -> UInt8[Tensor, "m 3 S S"]:
    """Views after one kernel that is the same in both arithmetics."""
    match kernel:
        case "Brightness":
            return colour.brightened(images, amount)
        case "Posterize":
            return colour.posterized(images, amount)
        case "Solarize":
            return colour.solarized(images, amount)
        case "Equalize":
            return colour.equalized(images)
        case "Invert":
            return 255 - images
    raise ValueError(f"{kernel} is not among the kernels of this arithmetic")
