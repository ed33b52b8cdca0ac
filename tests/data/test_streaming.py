import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from made_images import class_folders, dataset, noise, ragged_folders

from smalldata_vit.contracts import Pictures
from smalldata_vit.data.course import Course
from smalldata_vit.data.crops import RandomResizedCrop
from smalldata_vit.data.dataset import Dataset, Splits
from smalldata_vit.data.groups import ViewGroup
from smalldata_vit.data.module import ImageData
from smalldata_vit.data.views import AugmentedViews


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return ragged_folders(tmp_path / "images")


def made(root: Path, **changed: object) -> Dataset:
    settings = {"on_bad_image": "skip", "most_bad_images": 0.1, "most_shared": 0.5, "validation": 0.2}
    return dataset(root, **(settings | changed))


def alike(first: Pictures, second: Pictures) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("shorter_side", [None, 24])
def test_streamed_images_are_those_of_the_cache_pixel_for_pixel(
    root: Path, workers: int, shorter_side: int | None
) -> None:
    cached = made(root, shorter_side=shorter_side).load(0)
    streamed = made(root, shorter_side=shorter_side, decoded="stream", workers=workers).load(0)
    for one, other in ((cached.train, streamed.train), (cached.val, streamed.val), (cached.test, streamed.test)):
        assert one is not None
        assert other is not None
        assert other.stream is not None
        for index in (torch.arange(len(one)), torch.tensor([1, 0, 1]), torch.tensor([], dtype=torch.int64)):
            assert alike(one.take(index), other.take(index))


def test_streaming_changes_nothing_that_is_recorded_of_a_dataset(root: Path, tmp_path: Path) -> None:
    chosen = {"fraction": 0.5, "labels_per_class": 2}
    cached = made(root, cache=str(tmp_path / "one"), **chosen).load(3)
    streamed = made(root, cache=str(tmp_path / "two"), decoded="stream", **chosen).load(3)
    assert streamed.record == cached.record
    assert streamed.split_hash == cached.split_hash
    assert torch.equal(streamed.labelled, cached.labelled)
    assert torch.equal(streamed.place, cached.place)
    assert (streamed.mean, streamed.std) == (cached.mean, cached.std)


def test_a_picture_in_two_splits_is_found_when_images_are_streamed(root: Path) -> None:
    pairs = made(root, decoded="stream", validation="none").load(0).record["shared"]
    assert pairs == {"train/test": [["train/a/04.png", "test/a/shared.png"]]}


def test_equally_large_streamed_images_come_as_one_tensor_with_channels_last(tmp_path: Path) -> None:
    found = dataset(class_folders(tmp_path, {"a": 5}), decoded="stream").load(0).train
    taken = found.take(torch.tensor([4, 2]))
    assert isinstance(taken, torch.Tensor)
    assert taken.is_contiguous(memory_format=torch.channels_last)
    assert np.array_equal(taken[1].permute(1, 2, 0).numpy(), noise(2))


def test_no_pixel_is_kept_on_the_disk_and_images_are_looked_at_once(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = made(root, cache=str(tmp_path / "kept"), decoded="stream").load(0)
    assert list((tmp_path / "kept").rglob("pixels.bin")) == []
    monkeypatch.setattr("smalldata_vit.data.cache._look", lambda *arguments: pytest.fail("looked at twice"))
    assert made(root, cache=str(tmp_path / "kept"), decoded="stream").load(0).split_hash == first.split_hash


def test_moving_streamed_images_to_a_device_leaves_them_where_they_are(root: Path) -> None:
    images = made(root, decoded="stream").load(0).train
    assert images.to(torch.device("meta")) is images


opened_here: list[str] = []
counting = [False]


def count_opened(event: str, arguments: tuple[object, ...]) -> None:
    if counting[0] and event == "open" and str(arguments[0]).endswith((".png", ".jpg")):
        opened_here.append(str(arguments[0]))


sys.addaudithook(count_opened)


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """Image files that this process opens from now on."""
    opened_here.clear()
    counting[0] = True
    yield opened_here
    counting[0] = False


@pytest.mark.parametrize("decoded", ["cache", "stream"])
def test_this_process_opens_no_image_file_once_they_were_all_looked_at(
    root: Path, decoded: str, opened: list[str]
) -> None:
    images = made(root, decoded=decoded).load(0).train
    assert len(opened) > 0
    opened.clear()
    for _ in range(2):
        images.take(torch.arange(len(images)))
    assert opened == []


def steps(splits: Splits, first: int, last: int) -> list[Pictures | None]:
    group = ViewGroup(2, RandomResizedCrop((0.2, 1), (0.75, 1.33), "bicubic"), size=8)
    views = AugmentedViews({"only": group}, image_size=8, dataset_mean=splits.mean, dataset_std=splits.std)
    course = Course(len(splits.train), 4, None, 9)
    data = ImageData(views, splits.train, course, seed=5, device=torch.device("cpu"))
    return [data.step(number).passes[0].pictures for number in range(first, last)]


def test_training_that_goes_on_from_a_step_sees_what_it_would_have_seen(root: Path) -> None:
    whole = steps(made(root, decoded="stream", workers=2).load(0), 0, 6)
    rest = steps(made(root, decoded="stream", workers=1).load(0), 3, 6)
    for one, other in zip(whole[3:], rest, strict=True):
        assert one is not None
        assert other is not None
        assert alike(one, other)
