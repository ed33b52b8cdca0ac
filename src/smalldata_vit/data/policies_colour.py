"""Changes of single values, on views in 8 bits, each view with an amount of its own: as torchvision makes them on
tensors, and as Pillow does. Their names tell them apart; those without one are the same in both.

torchvision's functions take one amount for all images, and its `equalize` works on one channel at a time.
"""

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor


def blend_as_torchvision(
    images: UInt8[Tensor, "m 3 S S"], other: Tensor, factor: Float[Tensor, " m"]
) -> UInt8[Tensor, "m 3 S S"]:
    """`factor * images + (1 - factor) * other` in float32, cut to whole numbers."""
    one, rest = (weight.float()[:, None, None, None] for weight in (factor, 1 - factor))
    return (images * one).add_(other * rest).clamp_(0, 255).to(torch.uint8)


def blend_as_pillow(
    images: UInt8[Tensor, "m 3 S S"], other: Tensor, factor: Float[Tensor, " m"]
) -> UInt8[Tensor, "m 3 S S"]:
    """`other + factor * (images - other)` in float32, cut to whole numbers."""
    start = other.float()
    return (images - start).mul_(factor.float()[:, None, None, None]).add_(start).clamp_(0, 255).to(torch.uint8)


def brightened(images: UInt8[Tensor, "m 3 S S"], factor: Float[Tensor, " m"]) -> UInt8[Tensor, "m 3 S S"]:
    """Every value times the factor."""
    return (images * factor.float()[:, None, None, None]).clamp_(0, 255).to(torch.uint8)


def grey_as_torchvision(images: UInt8[Tensor, "m 3 S S"]) -> UInt8[Tensor, "m 1 S S"]:
    """Luminance, cut to a whole number."""
    red, green, blue = images.unbind(1)
    return (0.2989 * red + 0.587 * green + 0.114 * blue).to(torch.uint8)[:, None]


def grey_as_pillow(images: UInt8[Tensor, "m 3 S S"]) -> UInt8[Tensor, "m 1 S S"]:
    """Luminance in fixed point, rounded."""
    red, green, blue = images.int().unbind(1)
    return ((19595 * red + 38470 * green + 7471 * blue + 32768) >> 16).to(torch.uint8)[:, None]


def mean_of(grey: UInt8[Tensor, "m 1 S S"]) -> Float[Tensor, "m 1 1 1"]:
    """The mean of each view, float64. Summed in whole numbers: the same in any batch."""
    return grey.sum((1, 2, 3), keepdim=True) / torch.full((), grey[0].numel(), dtype=torch.float64, device=grey.device)


def smoothed(images: UInt8[Tensor, "m 3 S S"]) -> Float[Tensor, "m 3 S S"]:
    """Each pixel the mean of its neighbours (1 each) and itself (5), rounded; the border as it is.

    Summed in whole numbers: a convolution may be made in TF32 on an accelerator.
    """
    values = images.float()
    if images.shape[-1] < 3:
        return values
    lines = values[..., :-2] + values[..., 1:-1] + values[..., 2:]
    sums = lines[..., :-2, :] + lines[..., 1:-1, :] + lines[..., 2:, :] + 4 * values[..., 1:-1, 1:-1]
    values[..., 1:-1, 1:-1] = sums.div_(13).round_()
    return values


def posterized(images: UInt8[Tensor, "m 3 S S"], bits: Float[Tensor, " m"]) -> UInt8[Tensor, "m 3 S S"]:
    """The highest `bits` of each value, the others 0."""
    kept = (256 - 2 ** (8 - bits)).to(torch.uint8)
    return images & kept[:, None, None, None]


def solarized(images: UInt8[Tensor, "m 3 S S"], threshold: Float[Tensor, " m"]) -> UInt8[Tensor, "m 3 S S"]:
    """Values from the threshold, in float32, on are inverted; none from 256 on."""
    limit = threshold.float().ceil()[:, None, None, None]
    inverted = (images >= limit.clamp(max=255).to(torch.uint8)) & (limit < 256)
    return images ^ inverted.to(torch.uint8).mul_(255)


def raised_below_128(images: UInt8[Tensor, "m 3 S S"], summand: Float[Tensor, " m"]) -> UInt8[Tensor, "m 3 S S"]:
    """Values below 128 plus a whole number of at most 128, not beyond 255."""
    sums = (images + summand.to(torch.int16)[:, None, None, None]).clamp_(max=255).to(torch.uint8)
    return torch.where(images < 128, sums, images)


def stretched_as_torchvision(images: UInt8[Tensor, "m 3 S S"]) -> UInt8[Tensor, "m 3 S S"]:
    """Autocontrast: each channel from its lowest value to its highest, in float32."""
    low, high = images.amin((2, 3), keepdim=True).float(), images.amax((2, 3), keepdim=True).float()
    flat = low == high
    scale = torch.where(flat, 1, 255 / (high - low).masked_fill(flat, 1))
    return (images - low.masked_fill(flat, 0)).mul_(scale).clamp_(0, 255).to(torch.uint8)


def stretched_as_pillow(images: UInt8[Tensor, "m 3 S S"]) -> UInt8[Tensor, "m 3 S S"]:
    """Autocontrast: each channel from its lowest value to its highest, by a table in float64."""
    low, high = (side.flatten(1).double() for side in (images.amin((2, 3)), images.amax((2, 3))))
    flat = low == high
    scale = torch.full_like(low, 255) / (high - low).masked_fill(flat, 1)  # 255 / x is the product with a reciprocal
    scale, offset = torch.where(flat, 1, scale), torch.where(flat, 0, -low * scale)
    value = torch.arange(256, dtype=torch.float64, device=images.device)
    table = (value * scale[:, :, None] + offset[:, :, None]).clamp_(0, 255).to(torch.uint8)
    return looked_up(table, images)


def equalized(images: UInt8[Tensor, "m 3 S S"]) -> UInt8[Tensor, "m 3 S S"]:
    """Each channel's histogram made even."""
    counts = histogram(images)
    highest = images.amax((2, 3)).long()[:, :, None]
    step = (images[0, 0].numel() - counts.gather(2, highest)) // 255
    below = counts.cumsum(2) - counts
    table = ((below + step // 2) // step.clamp(min=1)).clamp_(0, 255)
    unchanged = torch.arange(256, device=images.device)
    return looked_up(torch.where(step == 0, unchanged, table).to(torch.uint8), images)


def histogram(images: UInt8[Tensor, "m 3 S S"]) -> Int[Tensor, "m 3 256"]:
    """How often each value occurs in each channel."""
    channels = images.shape[0] * 3
    first = torch.arange(0, 256 * channels, 256, device=images.device).reshape(-1, 3, 1)
    index = (images.flatten(2) + first).flatten()
    counts = torch.zeros(256 * channels, dtype=torch.long, device=images.device)
    return counts.scatter_add_(0, index, torch.ones_like(counts[:1]).expand_as(index)).reshape(-1, 3, 256)


def looked_up(table: UInt8[Tensor, "m 3 256"], images: UInt8[Tensor, "m 3 S S"]) -> UInt8[Tensor, "m 3 S S"]:
    """Every value replaced by its entry in the table of its channel."""
    return table.gather(2, images.flatten(2).long()).reshape(images.shape)


def cut_out(
    images: UInt8[Tensor, "m 3 S S"],
    side: Float[Tensor, " m"],
    centre: Float[Tensor, "m 2"],
    colour: UInt8[Tensor, "1 3 1 1"],
) -> UInt8[Tensor, "m 3 S S"]:
    """A square of twice `side // 2` pixels in one colour; `centre` (x, y) in [0, 1) may be so near that it is cut."""
    size = images.shape[-1]
    place = torch.arange(size, device=images.device)
    middle, half = (centre * size).floor(), (side / 2).floor()[:, None, None]
    inside = (place >= middle[..., None] - half) & (place < middle[..., None] + half)
    return torch.where((inside[:, 1, :, None] & inside[:, 0, None, :])[:, None], colour, images)
