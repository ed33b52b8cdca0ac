"""Each corruption against its published definition (Hendrycks and Dietterich 2019), written out image by image.

What is random is drawn from a twin of the image's generator in the order that the corruption draws it.
"""

import colorsys
import io
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from smalldata_vit.data import corruptions_blur as blur
from smalldata_vit.data import corruptions_digital as digital
from smalldata_vit.data import corruptions_noise as noise
from smalldata_vit.data import corruptions_weather as weather
from smalldata_vit.data.corruptions_levels import CIFAR, IMAGENET, TABLES, TINY_IMAGENET, table_for

COUNT = 3
LEVELS = range(5)


def pictures(side: int = 32) -> Tensor:
    """Random smooth pictures of 8 bits, with a black and a white corner."""
    rng = np.random.default_rng(0)
    made = ndimage.gaussian_filter(rng.uniform(0, 1, (COUNT, 3, side, side)), (0, 0, 2, 2))
    made = (made - made.min()) / (made.max() - made.min())
    made[:, :, :3, :3], made[:, :, -3:, -3:] = 0, 1
    return torch.from_numpy(made * 255).round().float() / 255


def draws() -> list[np.random.Generator]:
    return [np.random.default_rng(7 + n) for n in range(COUNT)]


def each(images: Tensor, one: Callable[[np.ndarray, np.random.Generator], np.ndarray]) -> Tensor:
    """`one` on each image as rows, columns, channels."""
    made = [one(i.permute(1, 2, 0).double().numpy(), g) for i, g in zip(images, draws(), strict=True)]
    return torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2).float()


def assert_near(made: Tensor, wanted: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(made, wanted.clamp(0, 1), rtol=0, atol=tolerance)


def smooth(image: np.ndarray, sigma: float) -> np.ndarray:
    return ndimage.gaussian_filter(image, (sigma, sigma, 0), mode="nearest", truncate=4.0)


def zoomed(image: np.ndarray, factor: float) -> np.ndarray:
    """The middle of an image enlarged by scipy and cut to its size."""
    side = len(image)
    inner = math.ceil(side / factor)
    top = (side - inner) // 2
    large = ndimage.zoom(image[top : top + inner, top : top + inner], (factor, factor, 1), order=1)
    cut = (len(large) - side) // 2
    return large[cut : cut + side, cut : cut + side]


def streak(image: np.ndarray, radius: float, sigma: float, degrees: float) -> np.ndarray:
    """Motion blur as ImageMagick has it, pixel by pixel, in 8 bits."""
    side, angle = len(image), math.radians(degrees)
    weights = [math.exp(-(i**2) / (2 * sigma**2)) for i in range(2 * math.ceil(radius) + 1)]
    made = np.zeros_like(image)
    for y in range(side):
        for x in range(side):
            for i, weight in enumerate(weights):
                v = min(max(y + math.ceil(i * math.sin(angle) - 0.5), 0), side - 1)
                u = min(max(x + math.ceil(i * math.cos(angle) - 0.5), 0), side - 1)
                made[y, x] += weight / sum(weights) * image[v, u]
    return np.floor(made * 255 + 0.5) / 255


def test_there_are_fifteen_corruptions_of_five_severities_in_each_table() -> None:
    for table in (CIFAR, TINY_IMAGENET, IMAGENET):
        assert list(table) == list(CIFAR)
        assert len(table) == 15
        assert {len(levels) for levels in table.values()} == {5}


@pytest.mark.parametrize(("side", "table"), [(8, 32), (32, 32), (48, 32), (64, 64), (223, 64), (224, 224), (448, 224)])
def test_a_side_takes_the_levels_of_the_largest_published_one_not_above_it(side: int, table: int) -> None:
    assert table_for(side) == table


@pytest.mark.parametrize("side", [32, 64, 224])
def test_gaussian_noise_has_the_published_deviation(side: int) -> None:
    for level in TABLES[side]["gaussian_noise"][:3]:
        made = noise.gaussian_noise(torch.full((1, 3, 200, 200), 0.5), level, draws()[:1])
        assert made.std().item() == pytest.approx(level, rel=0.02)
        assert made.mean().item() == pytest.approx(0.5, abs=5e-3)


@pytest.mark.parametrize("level", CIFAR["shot_noise"])
def test_shot_noise_counts_photons(level: float) -> None:
    made = noise.shot_noise(torch.full((1, 3, 200, 200), 0.3), level, draws()[:1])
    assert made.mean().item() == pytest.approx(0.3, rel=0.01)
    assert made.var().item() == pytest.approx(0.3 / level, rel=0.03)
    torch.testing.assert_close(made * level, (made * level).round(), rtol=0, atol=1e-3)


@pytest.mark.parametrize("level", CIFAR["impulse_noise"])
def test_impulse_noise_makes_half_of_its_values_black_and_half_white(level: float) -> None:
    made = noise.impulse_noise(torch.full((1, 3, 300, 300), 0.5), level, draws()[:1])
    assert (made == 0).float().mean().item() == pytest.approx(level / 2, rel=0.1)
    assert (made == 1).float().mean().item() == pytest.approx(level / 2, rel=0.1)
    assert (made == 0.5).float().mean().item() == pytest.approx(1 - level, rel=0.01)
    assert len(made[0].unique(dim=0)) == 3, "channels change alone"


@pytest.mark.parametrize("level", [*CIFAR["defocus_blur"], *TINY_IMAGENET["defocus_blur"], *IMAGENET["defocus_blur"]])
def test_defocus_blur_spreads_over_a_disk_with_a_softened_edge(level: tuple[float, float]) -> None:
    radius, sigma = level
    reach, soft = (8, 1) if radius <= 8 else (int(radius), 2)
    place = np.arange(-reach, reach + 1)
    disk = (place[:, None] ** 2 + place**2 <= radius**2).astype(float)
    weights = np.exp(-(np.arange(-soft, soft + 1) ** 2) / (2 * sigma**2))
    kernel = disk / disk.sum()
    for axis in (0, 1):
        kernel = ndimage.correlate1d(kernel, weights / weights.sum(), axis, mode="mirror")
    images = pictures()
    wanted = each(images, lambda i, _: ndimage.correlate(i, kernel[:, :, None], mode="mirror"))
    assert_near(blur.defocus_blur(images, level, draws()), wanted)


@pytest.mark.parametrize("level", [*CIFAR["glass_blur"], (0.9, 2, 2)])
def test_glass_blur_moves_pixels_between_two_gaussians(level: tuple[float, int, int]) -> None:
    sigma, reach, rounds = level

    def glass(image: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        image = np.floor(smooth(image, sigma) * 255 + 1e-4)
        side = len(image)
        steps = iter(draw.integers(-reach, reach, (rounds * (side - 2 * reach) ** 2, 2)))
        for _ in range(rounds):
            for y in range(side - reach, reach, -1):
                for x in range(side - reach, reach, -1):
                    across, down = next(steps)
                    here, there = image[y, x], image[y + down, x + across]  # views: the second line copies in vain
                    image[y, x], image[y + down, x + across] = there, here
        return smooth(image / 255, sigma)

    images = pictures()
    assert_near(blur.glass_blur(images, level, draws()), each(images, glass))


@pytest.mark.parametrize("level", [*CIFAR["motion_blur"], IMAGENET["motion_blur"][4]])
def test_motion_blur_is_a_streak_of_gaussian_weights(level: tuple[float, float]) -> None:
    images = pictures()
    wanted = each(images, lambda i, g: streak(i, *level, g.uniform(-45, 45)))
    assert_near(blur.motion_blur(images, level, draws()), wanted, 1.01 / 255)
    assert float((blur.motion_blur(images, level, draws()) - wanted).abs().gt(1e-5).float().mean()) < 1e-3


@pytest.mark.parametrize("level", [*CIFAR["zoom_blur"], *IMAGENET["zoom_blur"]])
@pytest.mark.parametrize("side", [32, 45])
def test_zoom_blur_is_the_mean_of_a_picture_and_its_enlargements(level: tuple[float, float], side: int) -> None:
    images, factors = pictures(side), np.arange(1, *level)
    wanted = each(images, lambda i, _: (i + sum(zoomed(i, f) for f in factors)) / (len(factors) + 1))
    assert_near(blur.zoom_blur(images, level, draws()), wanted)


@pytest.mark.parametrize("level", [*CIFAR["snow"][2:], IMAGENET["snow"][0]])
def test_snow_lays_blown_flakes_over_a_paler_picture_twice(level: tuple[float, ...]) -> None:
    mean, deviation, zoom, threshold, radius, sigma, share = level

    def snow(image: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        flakes = zoomed(draw.normal(mean, deviation, (32, 32))[:, :, None], zoom)
        flakes[flakes < threshold] = 0
        flakes = np.floor(flakes.clip(0, 1) * 255 + 1e-4) / 255
        flakes = streak(flakes, radius, sigma, draw.uniform(-135, -45))
        grey = image @ np.array([0.299, 0.587, 0.114])
        pale = share * image + (1 - share) * np.maximum(image, grey[:, :, None] * 1.5 + 0.5)
        return pale + flakes + np.rot90(flakes, 2)

    images = pictures()
    made, wanted = weather.snow(images, level, draws()), each(images, snow).clamp(0, 1)
    assert float((made - wanted).abs().gt(1e-4).float().mean()) < 5e-3
    assert_near(made, wanted, 2.5 / 255)


def plasma(draw: np.random.Generator, side: int, decay: float) -> np.ndarray:
    """Diamond-square point by point."""
    heights, step, reach = np.zeros((side, side)), side, 100.0
    while step >= 2:
        half = step // 2
        squares = [(y, x) for y in range(half, side, step) for x in range(half, side, step)]
        across = [(y, x) for y in range(0, side, step) for x in range(half, side, step)]
        down = [(y, x) for y in range(half, side, step) for x in range(0, side, step)]
        for points, around in (
            (squares, [(-half, -half), (-half, half), (half, -half), (half, half)]),
            (across, [(-half, 0), (half, 0), (0, -half), (0, half)]),
            (down, [(-half, 0), (half, 0), (0, -half), (0, half)]),
        ):
            for (y, x), u in zip(points, draw_uniform(draw, len(points)), strict=True):
                mean = sum(heights[(y + v) % side, (x + w) % side] for v, w in around) / 4
                heights[y, x] = mean + reach**2 * u
        step, reach = half, reach / decay
    return (heights - heights.min()) / (heights - heights.min()).max()


def draw_uniform(draw: np.random.Generator, number: int) -> np.ndarray:
    return draw.uniform(-1, 1, number)


@pytest.mark.parametrize("decay", [3, 1.75])
@pytest.mark.parametrize("side", [2, 32])
def test_fractals_are_those_of_the_diamond_square_algorithm(side: int, decay: float) -> None:
    made = weather.fractal(draws(), side, decay)
    for one, draw in zip(made, draws(), strict=True):
        np.testing.assert_allclose(one, plasma(draw, side, decay), atol=1e-9)


@pytest.mark.parametrize("level", CIFAR["fog"])
def test_fog_adds_a_fractal_and_keeps_the_brightest_value(level: tuple[float, float]) -> None:
    def fog(image: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        clouds = plasma(draw, 32, level[1])[:, :, None]
        return (image + level[0] * clouds) * image.max() / (image.max() + level[0])

    images = pictures()
    assert_near(weather.fog(images, level, draws()), each(images, fog))


def test_fog_of_224_pixels_is_cut_from_a_fractal_of_256() -> None:
    images = torch.zeros(COUNT, 3, 224, 224)
    images[:, :, 0, 0] = 1
    made = weather.fog(images, (1.5, 2.0), draws())
    clouds = torch.from_numpy(weather.fractal(draws(), 256, 2.0)).float()[:, None, :224, :224]
    assert_near(made[:, :, 1:], (1.5 * clouds / 2.5).expand(-1, 3, -1, -1)[:, :, 1:])


@pytest.mark.parametrize("level", CIFAR["brightness"])
def test_brightness_raises_the_value_of_hsv(level: float) -> None:
    def brighter(image: np.ndarray, _: np.random.Generator) -> np.ndarray:
        hsv = [[colorsys.rgb_to_hsv(*pixel) for pixel in row] for row in image]
        return np.array([[colorsys.hsv_to_rgb(h, s, min(v + level, 1)) for h, s, v in row] for row in hsv])

    images = pictures()
    assert_near(weather.brightness(images, level, draws()), each(images, brighter))


@pytest.mark.parametrize("level", CIFAR["contrast"])
def test_contrast_brings_values_nearer_to_their_channels_mean(level: float) -> None:
    images = pictures()
    wanted = each(images, lambda i, _: (i - i.mean((0, 1))) * level + i.mean((0, 1)))
    assert_near(digital.contrast(images, level, draws()), wanted)


@pytest.mark.parametrize("level", [*CIFAR["elastic_transform"], (64.0, 22.4, 3.2)])
def test_an_elastic_transform_is_an_affine_map_and_a_smooth_field(level: tuple[float, float, float]) -> None:
    strength, sigma, corner = level

    def elastic(image: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        side = len(image)
        c, t = side // 2, side // 3
        old = np.array([[c + t, c + t], [c + t, c - t], [c - t, c - t]], float)
        new = old + draw.uniform(-corner, corner, (3, 2))
        forward = np.linalg.solve(np.c_[old, np.ones(3)], new).T  # (2, 3): new = forward @ (x, y, 1)
        square = np.linalg.inv(np.vstack([forward, [0, 0, 1]]))
        y, x = np.mgrid[:side, :side].astype(float)
        u, v, _ = np.einsum("ij,jyx->iyx", square, np.stack([x, y, np.ones_like(x)]))
        moved = [ndimage.map_coordinates(image[:, :, k], [v, u], order=1, mode="mirror") for k in range(3)]
        field = draw.uniform(-1, 1, (2, side, side))
        if sigma > 0:
            field = np.stack([ndimage.gaussian_filter(f, sigma, mode="reflect", truncate=3) for f in field])
        place = [y + strength * field[1], x + strength * field[0]]
        return np.stack([ndimage.map_coordinates(m, place, order=1, mode="reflect") for m in moved], 2)

    images = pictures()
    assert_near(digital.elastic_transform(images, level, draws()), each(images, elastic), 2e-4)


@pytest.mark.parametrize("level", [*CIFAR["pixelate"], *IMAGENET["pixelate"]])
def test_pixelate_is_pillows_box_filter_down_and_up(level: float) -> None:
    def coarse(image: np.ndarray, _: np.random.Generator) -> np.ndarray:
        picture, small = Image.fromarray((image * 255).round().astype(np.uint8)), int(32 * level)
        picture = picture.resize((small, small), Image.Resampling.BOX).resize((32, 32), Image.Resampling.BOX)
        return np.asarray(picture) / 255

    images = pictures()
    assert_near(digital.pixelate(images, level, draws()), each(images, coarse), 1e-6)


@pytest.mark.parametrize("level", [*CIFAR["jpeg_compression"], *IMAGENET["jpeg_compression"]])
def test_jpeg_compression_is_pillows_at_the_published_quality(level: float) -> None:
    def compressed(image: np.ndarray, _: np.random.Generator) -> np.ndarray:
        file = io.BytesIO()
        Image.fromarray((image * 255).round().astype(np.uint8)).save(file, "JPEG", quality=level)
        return np.asarray(Image.open(file)) / 255

    images = pictures()
    assert_near(digital.jpeg_compression(images, level, draws()), each(images, compressed), 1e-6)
