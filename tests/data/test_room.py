from pathlib import Path

import numpy as np
import pytest
from made_images import class_folders, dataset, noise, save

from smalldata_vit.data import room
from smalldata_vit.data.folders import Folders
from smalldata_vit.data.resolution import Resolution
from smalldata_vit.data.room import stated_bytes
from smalldata_vit.data.sources import Opened, RawSplit, joined


def train(root: Path) -> Opened:
    return Folders().splits(root)["train"].open()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Images of 9 sizes, 7,830 pixels in all."""
    for i in range(9):
        save(noise(i, 20 + i, 40 - i), tmp_path / "images" / "a" / f"{i}.png")
    return tmp_path / "images"


@pytest.mark.parametrize("resolution", [Resolution(), Resolution(25), Resolution(10)])
def test_the_size_that_is_stated_is_the_size_that_is_written(
    root: Path, tmp_path: Path, resolution: Resolution
) -> None:
    stated = stated_bytes(train(root), resolution)
    dataset(root, cache=str(tmp_path / "cache"), shorter_side=resolution.shorter_side).load(0)
    (written,) = (tmp_path / "cache").rglob("pixels.bin")
    assert stated == written.stat().st_size


def test_of_many_images_some_headers_tell_the_size_of_all(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "HEADERS", 3)  # the first, the middle and the last
    assert stated_bytes(train(root), Resolution()) == 3 * 9 * (20 * 40 + 24 * 36 + 28 * 32) // 3


def test_without_headers_the_size_is_told_from_pictures() -> None:
    opened = Opened(["a"], ["1", "2"], lambda i: (noise(i, 4, 5 + i), 0))
    assert stated_bytes(opened, Resolution()) == 3 * 4 * (5 + 6)


def test_sizes_are_known_for_splits_that_were_joined(root: Path) -> None:
    split = Folders().splits(root)["train"]
    assert stated_bytes(joined(split, split).open(), Resolution()) == 2 * stated_bytes(train(root), Resolution())


def test_an_unreadable_file_does_not_keep_the_size_from_being_told(root: Path) -> None:
    expected = stated_bytes(train(root), Resolution()) / 9
    (root / "a" / "broken.png").write_bytes(b"?")
    assert stated_bytes(train(root), Resolution()) == pytest.approx(expected * 9)


def test_the_size_is_said_before_the_images_are_decoded(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("smalldata_vit.data.cache.read", stop)
    with pytest.raises(KeyboardInterrupt):
        dataset(root, cache=str(tmp_path / "cache")).load(0)
    size = stated_bytes(train(root), Resolution()) / 10**6
    assert f"the decoded images of made-train (9) take about {size:.1f} MB in {tmp_path}" in capsys.readouterr().out


def test_more_than_the_limit_is_refused_with_size_free_space_and_the_ways_out(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="take about") as error:
        dataset(root, cache=str(tmp_path / "cache"), cache_limit=1e-6).load(0)
    told = str(error.value)
    for words in ("GB are free", "dataset.cache_limit=1e-06 allows", "dataset.decoded=stream", "dataset.shorter_side="):
        assert words in told
    assert list((tmp_path / "cache").rglob("*.bin")) == []


def test_more_than_what_is_free_is_refused_before_it_is_written(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda place: type("Usage", (), {"free": 1000})())
    with pytest.raises(ValueError, match=r"where 0\.0 MB are free: decode them anew .*or choose another disk"):
        dataset(root, cache=str(tmp_path / "cache"), cache_limit=None).load(0)


def test_what_is_kept_already_is_used_whatever_the_limit(root: Path, tmp_path: Path) -> None:
    first = dataset(root, cache=str(tmp_path / "cache")).load(0)
    again = dataset(root, cache=str(tmp_path / "cache"), cache_limit=1e-6).load(0)
    assert again.split_hash == first.split_hash


def test_a_limit_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"dataset.cache_limit=0: it is a number of GB above 0, or null"):
        dataset(Path(), cache_limit=0)


def test_joined_splits_are_read_like_each_of_them(tmp_path: Path) -> None:
    class_folders(tmp_path / "train", {"a": 2})
    class_folders(tmp_path / "val", {"a": 2}, start=5)
    splits = Folders().splits(tmp_path)
    both = joined(splits["train"], splits["val"]).open()
    plain = joined(splits["train"], RawSplit("x", lambda: Opened(["a"], ["1"], lambda i: (noise(9), 0)))).open()
    assert both.image_files is not None
    assert plain.image_files is None
    assert np.array_equal(both.item(3)[0], noise(6))
    assert np.array_equal(both.image_files.scaled(2, 3)[0], Resolution(3).reader(both)(2)[0])
    assert np.array_equal(plain.item(2)[0], noise(9))
