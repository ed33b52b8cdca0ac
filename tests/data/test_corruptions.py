"""The source of corrupted images: determinism, frost, published arrays, and what it refuses."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from smalldata_vit.data.corruptions import Corruptions
from smalldata_vit.data.corruptions_weather import DEVIATIONS, DEVIATIONS_SHRUNK, MEANS, PHOTOGRAPHS, Frost

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def normalised(pixels: Tensor) -> Tensor:
    mean, std = (torch.tensor(v)[:, None, None] for v in (MEAN, STD))
    return (pixels.float() / 255 - mean) / std


def shown(count: int = 4, side: int = 32) -> tuple[Tensor, Tensor, Tensor]:
    """Normalised images, labels and places."""
    pixels = torch.randint(0, 256, (count, 3, side, side), generator=torch.Generator().manual_seed(1))
    return normalised(pixels), torch.arange(count) % 10, torch.arange(count) + 20


@pytest.mark.parametrize("name", Corruptions.names)
def test_an_image_is_corrupted_the_same_in_any_batch_and_otherwise_by_another_seed(name: str) -> None:
    images, label, index = shown()
    whole = Corruptions(MEAN, STD)(images, label, index, name, 3)
    again = Corruptions(MEAN, STD)(images[[2, 0]], label[[2, 0]], index[[2, 0]], name, 3)
    torch.testing.assert_close(again, whole[[2, 0]], rtol=0, atol=1e-5)
    other = Corruptions(MEAN, STD, seed=1)(images, label, index, name, 3)
    still = name in ("brightness", "contrast", "pixelate", "jpeg_compression", "defocus_blur", "zoom_blur")
    assert torch.equal(other, whole) == still


@pytest.mark.parametrize("name", Corruptions.names)
@pytest.mark.parametrize("side", [8, 64])
def test_every_corruption_gives_pictures_of_8_bits_at_other_sizes_too(name: str, side: int) -> None:
    images, label, index = shown(2, side)
    mean, std = (torch.tensor(v)[:, None, None] for v in (MEAN, STD))
    for severity in (1, 5):
        made = (Corruptions(MEAN, STD)(images, label, index, name, severity) * std + mean) * 255
        assert made.shape == images.shape
        torch.testing.assert_close(made, made.round().clamp(0, 255), rtol=0, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", Corruptions.names)
def test_every_corruption_runs_at_224_pixels(name: str) -> None:
    images, label, index = shown(2, 224)
    source = Corruptions(MEAN, STD)
    assert all(source(images, label, index, name, s).isfinite().all() for s in (1, 5))
    assert source.recorded()["levels"] == 224


@pytest.mark.parametrize("name", ["gaussian_noise", "impulse_noise", "contrast", "fog", "pixelate"])
def test_a_higher_severity_moves_a_picture_further(name: str) -> None:
    images, label, index = shown(16)
    far = [float((Corruptions(MEAN, STD)(images, label, index, name, s) - images).square().mean()) for s in range(1, 6)]
    assert far == sorted(far)


def test_fractals_of_frost_have_the_means_and_deviations_of_the_photographs() -> None:
    for table, deviations in ((224, DEVIATIONS), (32, DEVIATIONS_SHRUNK)):
        for one, mean, deviation in zip(Frost(None, table).photographs, MEANS, deviations, strict=True):
            torch.testing.assert_close(255 * one.mean((1, 2)), torch.tensor(mean).float(), rtol=0, atol=3)
            torch.testing.assert_close(255 * one.std((1, 2)), torch.tensor(deviation).float(), rtol=0.15, atol=0)


def test_fractals_of_frost_are_as_smooth_as_the_photographs() -> None:
    grey = torch.stack(Frost(None, 32).photographs).mean(1)
    grey = grey - grey.mean((1, 2), keepdim=True)
    together = [float((grey[:, :, :-d] * grey[:, :, d:]).mean() / grey.square().mean()) for d in (1, 2, 4, 8, 16)]
    assert together == pytest.approx([0.84, 0.72, 0.63, 0.54, 0.42], abs=0.12)


def test_images_as_large_as_the_frost_are_refused() -> None:
    with pytest.raises(ValueError, match=r"images of 256 px cannot be cut from frost of \(256, 256\) px"):
        Frost(None, 32)(torch.zeros(1, 3, 256, 256), (1, 0.2), [np.random.default_rng(0)])


def test_frost_of_photographs_is_cut_from_them_after_shrinking(tmp_path: Path) -> None:
    for n, name in enumerate(PHOTOGRAPHS):
        Image.fromarray(np.full((400, 500, 3), 40 * n, np.uint8)).save(tmp_path / name, lossless=True)
    frost, images = Frost(tmp_path, 32), torch.full((1, 3, 32, 32), 0.5)
    assert {tuple(p.shape) for p in frost.photographs} == {(3, 80, 100)}
    for seed in range(6):
        kind = int(np.random.default_rng(seed).integers(5))
        made = frost(images, (0.9, 0.4), [np.random.default_rng(seed)])
        torch.testing.assert_close(made, torch.full_like(made, min(0.45 + 0.4 * 40 * kind / 255, 1)), atol=0.01, rtol=0)
    (tmp_path / PHOTOGRAPHS[2]).unlink()
    with pytest.raises(FileNotFoundError, match=r"frost3.png; frost_photographs=null"):
        Frost(tmp_path, 32)


def arrays(folder: Path, count: int = 30) -> np.ndarray:
    """Arrays as published, of `count` test images; returns those of the first corruption."""
    rng = np.random.default_rng(0)
    for name in Corruptions.names:
        np.save(folder / f"{name}.npy", rng.integers(0, 256, (5 * count, 32, 32, 3), np.uint8))
    np.save(folder / "labels.npy", np.tile(np.arange(count) % 10, 5).astype(np.uint8))
    return np.load(folder / f"{Corruptions.names[0]}.npy")


def test_published_arrays_are_taken_by_severity_and_place(tmp_path: Path) -> None:
    published, index = arrays(tmp_path), torch.tensor([29, 3])
    source = Corruptions(MEAN, STD, folder=str(tmp_path))
    made = source(torch.zeros(2, 3, 32, 32), index % 10, index, "gaussian_noise", 4)
    wanted = torch.from_numpy(published[[3 * 30 + 29, 3 * 30 + 3]]).permute(0, 3, 1, 2)
    torch.testing.assert_close(made, normalised(wanted))
    assert source(torch.zeros(2, 3, 64, 64), index % 10, index, "gaussian_noise", 4).shape == (2, 3, 64, 64)
    assert source.recorded() == {"folder": str(tmp_path)}


def test_arrays_of_other_images_are_refused(tmp_path: Path) -> None:
    arrays(tmp_path)
    source = Corruptions(MEAN, STD, folder=str(tmp_path))
    for label, index in (([3, 4], [3, 5]), ([0], [30])):
        with pytest.raises(ValueError, match="holds 30 pictures a severity, and their labels are not those"):
            source(torch.zeros(len(label), 3, 32, 32), torch.tensor(label), torch.tensor(index), "fog", 1)


def test_a_folder_that_lacks_an_array_is_refused_with_its_name(tmp_path: Path) -> None:
    arrays(tmp_path)
    (tmp_path / "snow.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks snow.npy: it has to be the unpacked CIFAR-10-C"):
        Corruptions(MEAN, STD, folder=str(tmp_path))


def test_images_normalised_otherwise_are_refused() -> None:
    images, label, index = shown()
    with pytest.raises(ValueError, match=r"no pictures of 8 bits normalised with mean=\[0.5, 0.4, 0.31\]"):
        Corruptions((0.5, 0.4, 0.31), STD)(images, label, index, "fog", 1)


def test_statistics_that_are_not_known_are_asked_for() -> None:
    with pytest.raises(ValueError, match=r"mean=None and std=None: .* evaluator.corruptions.source.mean="):
        Corruptions(None, None)
