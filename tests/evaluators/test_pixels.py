import numpy as np
import pytest
import torch

from smalldata_vit.evaluators.pixels import flat, svm_on_pixels


def pictures(images: int, seed: int) -> tuple[torch.Tensor, np.ndarray]:
    chance = np.random.default_rng(seed)
    centres = np.random.default_rng(99).integers(40, 216, (3, 3, 4, 4))
    label = np.arange(images) % 3
    pixels = np.clip(centres[label] + chance.normal(0, 60, (images, 3, 4, 4)), 0, 255)
    return torch.from_numpy(pixels.astype(np.uint8)), label


def splits() -> list[tuple[np.ndarray, np.ndarray]]:
    return [(flat(images), label) for images, label in (pictures(60, 1), pictures(30, 2), pictures(90, 3))]


def test_more_labels_help_and_every_count_is_recorded() -> None:
    train, validation, test = splits()
    found = svm_on_pixels(train, np.arange(60) // 3, validation, test, [1, 2, 50], 1000)
    assert list(found.metrics) == ["accuracy@1", "accuracy@2", "accuracy@all"]
    assert found.metrics["accuracy@1"] < found.metrics["accuracy@all"]
    assert {n: used["images"] for n, used in found.recorded.items()} == {"1": 3, "2": 6, "all": 60}


def test_labels_of_the_test_split_do_not_reach_the_choice() -> None:
    train, validation, test = splits()
    wrong = (test[0], (test[1] + 1) % 3)
    honest = svm_on_pixels(train, np.arange(60) // 3, validation, test, [1, 2], 1000)
    fooled = svm_on_pixels(train, np.arange(60) // 3, validation, wrong, [1, 2], 1000)
    assert honest.recorded == fooled.recorded


def test_without_validation_split_the_defaults_are_used() -> None:
    train, _, test = splits()
    found = svm_on_pixels(train, np.arange(60) // 3, None, test, [1], 1000)
    assert {used["C"] for used in found.recorded.values()} == {10.0}


def test_subsets_that_are_too_large_are_left_out() -> None:
    train, validation, test = splits()
    found = svm_on_pixels(train, np.arange(60) // 3, validation, test, [1, 2], 6)
    assert list(found.metrics) == ["accuracy@1", "accuracy@2"]


def test_small_pictures_are_taken_as_they_are() -> None:
    images, _ = pictures(2, 1)
    rows = flat(images)
    assert rows.shape == (2, 48)
    assert rows[0, 5] == pytest.approx(int(images[0].flatten()[5]) / 255)


@pytest.mark.parametrize("sizes", [[(40, 50), (64, 64)], [(20, 10), (8, 8)]])
def test_large_or_differing_pictures_are_brought_to_one_size(sizes: list[tuple[int, int]]) -> None:
    images = [torch.full((3, *size), 51, dtype=torch.uint8) for size in sizes]
    rows = flat(images)
    assert rows.shape == (2, 3 * 32 * 32)
    np.testing.assert_allclose(rows, 0.2, atol=1e-6)
