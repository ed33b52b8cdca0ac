"""The kept part of a map and its overlap with masks, by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from smalldata_vit.reports.attention_saliency import kept, mask_files, overlap, read_masks, saliency

MAP = torch.tensor([[0.4, 0.1], [0.3, 0.2]])


@pytest.mark.parametrize(
    ("keep", "stays"),
    [
        (0.3, [[1, 0], [0, 0]]),
        (0.4, [[1, 0], [0, 0]]),
        (0.41, [[1, 0], [1, 0]]),
        (0.6, [[1, 0], [1, 0]]),
        (0.75, [[1, 0], [1, 1]]),
        (1.0, [[1, 1], [1, 1]]),
    ],
)
def test_the_largest_patches_that_hold_a_share_of_the_mass_stay(keep: float, stays: list[list[int]]) -> None:
    assert kept(MAP, keep).int().tolist() == stays
    assert torch.equal(kept(7 * MAP, keep), kept(MAP, keep))
    assert torch.equal(kept(torch.stack([MAP, MAP.T]), keep), torch.stack([kept(MAP, keep), kept(MAP.T, keep)]))


def test_a_share_of_the_mass_lies_between_0_and_1() -> None:
    with pytest.raises(ValueError, match=r"keep=1.2: the share"):
        kept(MAP, 1.2)


def test_overlap_is_intersection_over_union_and_0_of_nothing() -> None:
    one, other = torch.zeros(4, 4, dtype=torch.bool), torch.zeros(4, 4, dtype=torch.bool)
    assert overlap(one, other).item() == 0
    one[:2], other[:, :2] = True, True
    assert overlap(one, other).item() == pytest.approx(4 / 12)


def test_the_best_head_of_each_image_counts_and_the_mean_over_heads_beside_it() -> None:
    heads = torch.zeros(2, 2, 2, 2)
    heads[0, 0, 0, 0], heads[0, 1, 1, 1], heads[1, :, 0, 1] = 1, 1.5, 1
    masks = torch.zeros(2, 4, 4, dtype=torch.bool)
    masks[0, :2, :2], masks[1, :, 2:] = True, True
    best, mean = saliency(heads, masks, 0.6)
    assert best.tolist() == [1.0, 0.5]
    assert mean.tolist() == [0.0, 0.5], "of the first image the mean's larger half lies on the wrong patch"


def mask(file: Path, value: int = 255) -> None:
    pixels = np.zeros((8, 8), np.uint8)
    pixels[:4] = value
    Image.fromarray(pixels).save(file)


def test_masks_are_named_as_their_images_or_by_their_places(tmp_path: Path) -> None:
    mask(tmp_path / "bird.png")
    mask(tmp_path / "0.png", value=1)
    files = mask_files(tmp_path, ["a/cat.jpg", "b/dog.jpg", "b/bird.jpg"])
    assert list(files) == [0, 2]
    read = read_masks(files, 4)
    assert read.shape == (2, 4, 4)
    assert read.int().tolist() == [[[1] * 4] * 2 + [[0] * 4] * 2] * 2


def test_masks_of_no_image_or_of_two_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no masks"):
        mask_files(tmp_path, ["a.jpg"])
    mask(tmp_path / "x.png")
    with pytest.raises(ValueError, match=r"x.png belongs to no test image"):
        mask_files(tmp_path, ["a.jpg"])
    with pytest.raises(ValueError, match=r"x.png belongs to 2 test images"):
        mask_files(tmp_path, ["one/x.jpg", "two/x.jpg"])
