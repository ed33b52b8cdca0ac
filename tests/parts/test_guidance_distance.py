"""The guidance loss against its formulas."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from smalldata_vit.parts.guidance_distance import attention, distance, on_one_grid, similarity, standardized


def maps(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_mean_is_over_images_channels_and_places() -> None:
    student, guide = maps(3, 4, 2, 2), maps(3, 4, 2, 2, seed=1)
    total = sum(
        (float(guide[b, c, i, j]) - float(student[b, c, i, j])) ** 2
        for b in range(3)
        for c in range(4)
        for i in range(2)
        for j in range(2)
    )
    assert distance(student, guide, "linear", "mean").item() == pytest.approx(total / (3 * 4 * 2 * 2), rel=1e-6)


@pytest.mark.parametrize("channels", [16, 32, 64])
@pytest.mark.parametrize("images", [1, 5])
def test_the_sum_per_pixel_is_larger_by_exactly_the_number_of_channels(channels: int, images: int) -> None:
    student, guide = maps(images, channels, 4, 4), maps(images, channels, 8, 8, seed=1)
    mean, summed = (distance(student, guide, "linear", r) for r in ("mean", "per_pixel_sum"))
    assert (summed / mean).item() == channels


def test_the_sum_per_pixel_is_the_printed_formula_averaged_over_the_batch() -> None:
    student, guide = maps(3, 16, 4, 4), maps(3, 16, 4, 4, seed=1)
    of_images = [torch.linalg.vector_norm(guide[b] - student[b]) ** 2 / (4 * 4) for b in range(3)]
    torch.testing.assert_close(distance(student, guide, "linear", "per_pixel_sum"), torch.stack(of_images).mean())


@pytest.mark.parametrize(("own", "wanted"), [((14, 14), (32, 32)), ((14, 14), (8, 8)), ((3, 9), (6, 4))])
def test_both_maps_go_to_the_larger_grid_by_bilinear_interpolation(
    own: tuple[int, int], wanted: tuple[int, int]
) -> None:
    student, guide = on_one_grid(maps(2, 3, *own), maps(2, 3, *wanted, seed=1))
    size = (max(own[0], wanted[0]), max(own[1], wanted[1]))
    for made, given, seed in ((student, own, 0), (guide, wanted, 1)):
        expected = F.interpolate(maps(2, 3, *given, seed=seed), size=size, mode="bilinear", align_corners=False)
        torch.testing.assert_close(made, expected)


def test_projecting_before_or_behind_the_interpolation_is_the_same() -> None:
    projection, student = torch.nn.Conv2d(6, 4, 1), maps(2, 6, 5, 5)
    before = F.interpolate(projection(student), size=(8, 8), mode="bilinear")
    torch.testing.assert_close(before, projection(F.interpolate(student, size=(8, 8), mode="bilinear")))


def test_attention_is_the_channels_mean_square_of_length_one_for_each_image() -> None:
    given = maps(2, 3, 4, 4)
    for image, row in zip(given, attention(given), strict=True):
        energy = (image[0] ** 2 + image[1] ** 2 + image[2] ** 2) / 3
        torch.testing.assert_close(row[0], energy / energy.square().sum().sqrt())


def test_similarity_compares_the_images_of_a_pass_by_their_inner_products() -> None:
    given, flat = maps(3, 2, 2, 2), maps(3, 2, 2, 2).reshape(3, 8)
    rows = []
    for b in range(3):
        products = torch.stack([(flat[b] * flat[other]).sum() for other in range(3)])
        rows.append(products / products.square().sum().sqrt())
    torch.testing.assert_close(similarity(given), torch.stack(rows))
    other = maps(3, 5, 4, 4, seed=1)
    expected = (similarity(other) - similarity(given)).square().sum() / 9
    torch.testing.assert_close(distance(given, other, "similarity", "mean"), expected)


@pytest.mark.parametrize("transform", ["attention", "similarity"])
def test_the_other_transforms_compare_maps_of_any_widths_and_do_not_see_their_scale(transform: str) -> None:
    student, guide = maps(3, 7, 4, 4), maps(3, 16, 8, 8, seed=1)
    one, other = (distance(student * s, guide, transform, "mean") for s in (1.0, 5.0))  # type: ignore[arg-type]
    torch.testing.assert_close(one, other)


def test_standardised_features_have_mean_zero_and_deviation_one_in_each_channel() -> None:
    made = standardized(maps(4, 3, 5, 5) * torch.tensor([1.0, 10.0, 0.1])[:, None, None] + 7)
    torch.testing.assert_close(made.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(made.var((0, 2, 3), correction=0), torch.ones(3), atol=2e-3, rtol=0)


@pytest.mark.parametrize("transform", ["linear", "attention", "similarity"])
def test_half_precision_maps_are_compared_in_float32(transform: str) -> None:
    student, guide = maps(3, 4, 4, 4).bfloat16(), maps(3, 4, 8, 8, seed=1).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = distance(student, guide, transform, "mean")  # type: ignore[arg-type]
    assert found.dtype == torch.float32
    assert torch.equal(found, distance(student.float(), guide.float(), transform, "mean"))  # type: ignore[arg-type]
