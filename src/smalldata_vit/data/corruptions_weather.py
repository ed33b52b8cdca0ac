"""Common corruptions by weather: snow, frost, fog, brightness. Hendrycks and Dietterich, ICLR 2019, arXiv:1903.12261.

Images are square, float32 in 0..1. Departure, not measured: without the published photographs frost is a fractal with
their means and deviations; `Frost` takes a folder with them.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from smalldata_vit.data.corruptions_blur import streaked, truncated
from smalldata_vit.data.corruptions_filters import both_axes, zoom_matrix
from smalldata_vit.data.corruptions_noise import Generators, drawn

PHOTOGRAPHS = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")
"""Names of the published photographs of frost; a sixth lies beside them, which their code never draws."""
SHRUNK = {32: 0.2, 64: 0.3, 224: 1.0}
"""By how much a photograph is shrunk before it is cut, by the side that a table of levels was made for."""
MEANS = ((78, 149, 166), (201, 205, 214), (201, 205, 214), (138, 153, 165), (112, 123, 135))
DEVIATIONS = ((27, 16, 15), (21, 22, 23), (21, 22, 23), (28, 28, 30), (44, 43, 42))
DEVIATIONS_SHRUNK = ((23, 14, 13), (17, 18, 19), (17, 18, 19), (21, 21, 23), (36, 35, 33))
"""Of the photographs' channels, of 255, as measured on them; shrunk to a fifth."""
FROST_DECAY = 1.05
"""Of the fractals, so that pixels 1, 4 and 16 apart correlate as in the photographs."""
GREY = (0.299, 0.587, 0.114)


def snow(images: Float[Tensor, "B 3 S S"], level: tuple[float, ...], draws: Generators) -> Float[Tensor, "B 3 S S"]:
    """Flakes from enlarged noise above a threshold, blown from above, and once more turned around; a paler picture."""
    mean, deviation, zoom, threshold, radius, sigma, share = level
    side = images.shape[-1]
    noise = drawn(draws, lambda draw: draw.normal(mean, deviation, (1, side, side)), images.device)
    flakes = both_axes(noise, zoom_matrix(side, zoom))
    flakes = truncated(torch.where(flakes < threshold, 0.0, flakes))
    flakes = streaked(flakes, radius, sigma, np.array([draw.uniform(-135, -45) for draw in draws]))
    grey = torch.einsum("bchw,c->bhw", images, torch.tensor(GREY, device=images.device))[:, None]
    pale = share * images + (1 - share) * torch.maximum(images, grey * 1.5 + 0.5)
    return (pale + flakes + flakes.rot90(2, (2, 3))).clamp(0, 1)


class Frost:
    """Ice before the picture: shares of both.

    Arguments:
        photographs: folder with the published photographs; None: as many fractals of their means and deviations.
        table: side that the levels were made for; it decides how far photographs are shrunk.
    """

    def __init__(self, photographs: Path | None, table: int) -> None:
        self.table = table
        self.photographs = (
            made_photographs(table) if photographs is None else [_shrunk(photographs / n, table) for n in PHOTOGRAPHS]
        )

    def __call__(
        self, images: Float[Tensor, "B 3 S S"], level: tuple[float, float], draws: Generators
    ) -> Float[Tensor, "B 3 S S"]:
        """level[0] of the picture and level[1] of the frost."""
        ice = torch.stack([self._cut(draw, images.shape[-1]) for draw in draws])
        return (level[0] * images + level[1] * ice.to(images.device)).clamp(0, 1)

    def _cut(self, draw: np.random.Generator, side: int) -> Float[Tensor, "3 S S"]:
        photograph = self.photographs[int(draw.integers(len(self.photographs)))]
        if side >= min(photograph.shape[1:]):
            raise ValueError(f"images of {side} px cannot be cut from frost of {tuple(photograph.shape[1:])} px")
        top, left = (int(draw.integers(0, length - side)) for length in photograph.shape[1:])
        return photograph[:, top : top + side, left : left + side]


def made_photographs(table: int) -> list[Float[Tensor, "3 H W"]]:
    """A fractal in place of each photograph, always the same."""
    side, spreads = (1024, DEVIATIONS) if table == 224 else (256, DEVIATIONS_SHRUNK)
    clouds = torch.from_numpy(fractal([np.random.default_rng(n) for n in range(len(MEANS))], side, FROST_DECAY))
    clouds = (clouds - clouds.mean((1, 2), keepdim=True)) / clouds.std((1, 2), keepdim=True)
    mean, deviation = (torch.tensor(of, dtype=torch.float64)[:, :, None, None] for of in (MEANS, spreads))
    return list(((mean + deviation * clouds[:, None]) / 255).clamp(0, 1).float())


def _shrunk(file: Path, table: int) -> Float[Tensor, "3 H W"]:
    """A photograph as it is cut from; FileNotFoundError naming it if it is not there."""
    if not file.is_file():
        raise FileNotFoundError(
            f"there is no photograph of frost {file}; frost_photographs=null makes fractals instead"
        )
    with Image.open(file) as opened:
        pixels = torch.from_numpy(np.array(opened.convert("RGB"))).permute(2, 0, 1)[None].float()
    if (factor := SHRUNK[table]) < 1:
        sides = [round(side * factor) for side in pixels.shape[2:]]
        pixels = F.interpolate(pixels, sides, mode="bilinear", align_corners=False).round()
    return pixels[0] / 255


def fog(images: Float[Tensor, "B 3 S S"], level: tuple[float, float], draws: Generators) -> Float[Tensor, "B 3 S S"]:
    """A fractal of thickness level[0] before the picture, darkened so that its brightest value stays as bright."""
    side, thickness = images.shape[-1], level[0]
    clouds = torch.from_numpy(fractal(draws, _map_side(side), level[1])).float()[:, None, :side, :side]
    brightest = images.amax((1, 2, 3), keepdim=True)
    return ((images + thickness * clouds.to(images.device)) * brightest / (brightest + thickness)).clamp(0, 1)


def _map_side(side: int) -> int:
    """The next power of two."""
    return 1 << max(side - 1, 1).bit_length()


def fractal(draws: Generators, side: int, decay: float) -> Float[np.ndarray, "B side side"]:
    """Heights 0..1 by the diamond-square algorithm on a grid that is closed at its borders; `side` is a power of two.

    Each new point is the mean of its four neighbours and a uniform number, whose range is divided by decay² each time
    that the step is halved.
    """
    uniform = np.stack([draw.uniform(-1, 1, side * side - 1) for draw in draws])
    heights, step, reach, used = np.zeros((len(uniform), side, side)), side, 100.0, 0
    while step >= 2:
        half, number = step // 2, (side // step) ** 2
        given = uniform[:, used : used + 3 * number].reshape(-1, 3, side // step, side // step) * reach**2
        used += 3 * number
        corner, middle = heights[:, ::step, ::step], heights[:, half::step, half::step]
        rows = corner + np.roll(corner, -1, 1)
        middle[:] = (rows + np.roll(rows, -1, 2)) / 4 + given[:, 0]
        above, left = middle + np.roll(middle, 1, 1), middle + np.roll(middle, 1, 2)
        heights[:, ::step, half::step] = (above + corner + np.roll(corner, -1, 2)) / 4 + given[:, 1]
        heights[:, half::step, ::step] = (left + corner + np.roll(corner, -1, 1)) / 4 + given[:, 2]
        step, reach = half, reach / decay
    heights -= heights.min((1, 2), keepdims=True)
    return heights / heights.max((1, 2), keepdims=True)


def brightness(images: Float[Tensor, "B 3 S S"], level: float, draws: Generators) -> Float[Tensor, "B 3 S S"]:
    """The value of HSV, a pixel's largest channel, plus level, at most 1; hue and saturation stay."""
    value = images.amax(1, keepdim=True)
    brighter = (value + level).clamp(0, 1)
    return torch.where(value > 0, images * (brighter / value.clamp(min=1e-12)), brighter).clamp(0, 1)
