"""The arithmetic of changed colours, torchvision's on float images: values 0..1, clamped after each change."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

SMALLEST = torch.finfo(torch.float32).tiny


def on_each(
    images: Float[Tensor, "n 3 H W"],
    on: Bool[Tensor, " n"],
    change: Callable[..., Float[Tensor, "1 3 H W"]],
    *parameters: Float[Tensor, " n"],
) -> Float[Tensor, "n 3 H W"]:
    """`change(images, *parameters)` where `on`, row by row, written into `images`; bits as in `choices.on_rows`."""
    for row in on.nonzero()[:, 0].tolist():
        one = slice(row, row + 1)
        images[one].copy_(change(images[one], *(parameter[one] for parameter in parameters)))
    return images


def luminance(images: Float[Tensor, "n 3 H W"]) -> Float[Tensor, "n 1 H W"]:
    """0.2989 R + 0.587 G + 0.114 B (ITU-R 601-2 as torchvision rounds it)."""
    return images[:, 0:1].mul(0.2989).add_(images[:, 1:2].mul(0.587)).add_(images[:, 2:3].mul(0.114))


def blend(
    images: Float[Tensor, "n 3 H W"], other: Float[Tensor, "n 1 _ _"], factor: Float[Tensor, " n"]
) -> Float[Tensor, "n 3 H W"]:
    """`factor * images + (1 - factor) * other`, clamped, in place.

    Products and sums stand apart: a fused multiply-add would round rows differently at the end of a batch.
    """
    weight = factor[:, None, None, None]
    return images.mul_(weight).add_(other * (1 - weight)).clamp_(0, 1)


def change_brightness(images: Float[Tensor, "n 3 H W"], factor: Float[Tensor, " n"]) -> Float[Tensor, "n 3 H W"]:
    """Towards black (0) or away from it (above 1)."""
    return images.mul_(factor[:, None, None, None]).clamp_(0, 1)


def change_contrast(images: Float[Tensor, "n 3 H W"], factor: Float[Tensor, " n"]) -> Float[Tensor, "n 3 H W"]:
    """Towards the view's mean luminance or away from it."""
    return blend(images, luminance(images).mean((2, 3), keepdim=True), factor)


def change_saturation(images: Float[Tensor, "n 3 H W"], factor: Float[Tensor, " n"]) -> Float[Tensor, "n 3 H W"]:
    """Towards grey or away from it."""
    return blend(images, luminance(images), factor)


def change_hue(images: Float[Tensor, "n 3 H W"], shift: Float[Tensor, " n"]) -> Float[Tensor, "n 3 H W"]:
    """Turned on the colour circle by `shift` of a full turn; largest and smallest channel of a pixel stay."""
    high, low = images.amax(1), images.amin(1)
    chroma = high - low
    # Exactly 1 in the largest channel, so that rounding down tells which it is: on a CPU ten times as fast as `where`.
    relative = (images - low[:, None]).div_(chroma.clamp(min=SMALLEST)[:, None])
    red, green, blue = relative.unbind(1)
    sector = torch.lerp((red - green).add_(4), (blue - red).add_(2), green.floor())
    sector = torch.lerp(sector, green - blue, red.floor()).add_((6 * shift)[:, None, None])
    # One formula for the three channels, a third of the circle apart: a stack of three is slow when compiled.
    turned = sector[:, None] - 2 * torch.arange(3, device=images.device)[:, None, None]
    turned.sub_(turned.div(6).floor_().mul_(6))
    return turned.sub_(3).abs_().sub_(1).clamp_(0, 1).mul_(chroma[:, None]).add_(low[:, None])
