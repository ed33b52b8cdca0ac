from pathlib import Path

import numpy as np
import pytest
import torch
from made_images import noise

from smalldata_vit.data.cache import in_memory
from smalldata_vit.data.images import Images
from smalldata_vit.data.sources import Opened, RawSplit

ALIKE = [noise(i, 4, 6) for i in range(7)]
RAGGED = [noise(i, 3 + i % 3, 9 - i % 2) for i in range(7)]


def images(pictures: list[np.ndarray], labels: list[int] | None = None) -> Images:
    labels = labels or [i % 2 for i in range(len(pictures))]
    files = [f"{i}.png" for i in range(len(pictures))]
    raw = RawSplit(None, lambda: Opened(["a", "b"], files, lambda i: (pictures[i], labels[i])))
    return in_memory(raw, "made", Path(), None).images


def as_array(picture: torch.Tensor) -> np.ndarray:
    return picture.permute(1, 2, 0).numpy()


def test_equally_large_images_come_as_one_tensor_with_channels_last() -> None:
    taken = images(ALIKE).take(torch.tensor([5, 0, 5]))
    assert isinstance(taken, torch.Tensor)
    assert taken.shape == (3, 3, 4, 6)
    assert taken.is_contiguous(memory_format=torch.channels_last)
    for picture, i in zip(taken, [5, 0, 5], strict=True):
        assert np.array_equal(as_array(picture), ALIKE[i])


def test_images_of_different_sizes_come_as_a_list() -> None:
    found = images(RAGGED)
    assert not found.uniform
    taken = found.take(torch.tensor([6, 1]))
    assert isinstance(taken, list)
    assert [np.array_equal(as_array(p), RAGGED[i]) for p, i in zip(taken, [6, 1], strict=True)] == [True, True]


@pytest.mark.parametrize("pictures", [ALIKE, RAGGED])
def test_a_subset_has_the_same_pictures_labels_and_names_in_the_order_asked_for(pictures: list[np.ndarray]) -> None:
    found = images(pictures)
    part = found.subset(torch.tensor([4, 1, 0]))
    assert part.labels.tolist() == [0, 1, 0]
    assert part.files == ["4.png", "1.png", "0.png"]
    assert part.pixels.data_ptr() == found.pixels.data_ptr()
    assert np.array_equal(as_array(part.take(torch.tensor([1]))[0]), pictures[1])


def test_equally_large_images_among_others_still_come_as_one_tensor() -> None:
    part = images([noise(0, 2, 3), noise(1, 4, 4), noise(2, 2, 3), noise(3, 4, 4)]).subset(torch.tensor([1, 3]))
    taken = part.take(torch.tensor([1, 0]))
    assert isinstance(taken, torch.Tensor)
    assert np.array_equal(as_array(taken[0]), noise(3, 4, 4))
    assert taken.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("pictures", [ALIKE, RAGGED])
def test_moving_a_subset_to_a_device_takes_nothing_but_its_own_pixels(pictures: list[np.ndarray]) -> None:
    part = images(pictures).subset(torch.tensor([2, 5]))
    moved = part.to(torch.device("meta"))
    assert moved.pixels.numel() == pictures[2].size + pictures[5].size
    assert moved.labels.device.type == moved.device.type == "meta"
    assert part._compact().fingerprint == part.fingerprint
    assert np.array_equal(as_array(part._compact().take(torch.tensor([1]))[0]), pictures[5])


def test_the_fingerprint_changes_with_a_pixel_a_label_a_size_and_the_order_and_with_nothing_else() -> None:
    reference = images(ALIKE).fingerprint
    assert images([p.copy() for p in ALIKE]).fingerprint == reference
    other = [p.copy() for p in ALIKE]
    other[3][0, 0, 0] ^= 1
    turned = [p.reshape(6, 4, 3) for p in ALIKE]
    changed = [images(other), images(ALIKE, [1, 1, 0, 1, 0, 1, 0]), images(turned), images(ALIKE[::-1])]
    assert len({reference, *(found.fingerprint for found in changed)}) == 5


def test_mean_and_deviation_are_those_of_all_pixels() -> None:
    pixels = np.concatenate([p.reshape(-1, 3) for p in RAGGED]).astype(np.float64) / 255
    mean, std = images(RAGGED).statistics()
    assert mean == pytest.approx(pixels.mean(0), abs=1e-12)
    assert std == pytest.approx(pixels.std(0), abs=1e-12)


def test_statistics_of_a_subset_are_its_own() -> None:
    pixels = np.concatenate([RAGGED[i].reshape(-1, 3) for i in (6, 2)]).astype(np.float64) / 255
    assert images(RAGGED).subset(torch.tensor([6, 2])).statistics()[0] == pytest.approx(pixels.mean(0), abs=1e-12)


def test_images_of_different_sizes_are_handed_over_in_one_buffer_where_a_list_would_cost_launches() -> None:
    found, index = images(RAGGED), torch.tensor([6, 1])
    together, one_by_one = found.ragged(index), found.take(index)
    assert together.longest == max(max(picture.shape[:2]) for picture in RAGGED)
    assert len(together) == 2
    assert [torch.equal(a, b) for a, b in zip(together, one_by_one, strict=True)] == [True, True]
    assert torch.equal(next(iter(together[1:])), one_by_one[1])
