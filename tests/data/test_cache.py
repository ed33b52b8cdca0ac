import errno
import json
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from mmap import PAGESIZE
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from made_images import class_folders, noise, save

from smalldata_vit.data import cache, reading
from smalldata_vit.data.cache import in_memory
from smalldata_vit.data.folders import Folders
from smalldata_vit.data.images import Images
from smalldata_vit.data.resolution import Resolution
from smalldata_vit.data.room import writable


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return class_folders(tmp_path / "images", {"cat": 4, "dog": 5})


def load(root: Path, folder: Path, shorter_side: int | None = None) -> Images:
    return in_memory(Folders().splits(root)["train"], "made-train", folder, Resolution(shorter_side)).images


def forbid_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: object) -> None:
        raise AssertionError("decoded a second time")

    monkeypatch.setattr(reading, "_one", refused)


def test_images_are_decoded_once_and_then_mapped(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(root, tmp_path / "cache")
    forbid_reading(monkeypatch)
    again = load(root, tmp_path / "cache")
    assert again.fingerprint == first.fingerprint
    assert again.files == first.files
    assert torch.equal(again.pixels, first.pixels)
    assert np.array_equal(again.take(torch.tensor([3]))[0].permute(1, 2, 0).numpy(), noise(3))


def test_a_changed_file_is_noticed(root: Path, tmp_path: Path) -> None:
    first = load(root, tmp_path / "cache")
    save(noise(99), root / "cat" / "000.png")
    os.utime(root / "cat" / "000.png", ns=(1, 1))
    again = load(root, tmp_path / "cache")
    assert again.fingerprint != first.fingerprint
    assert np.array_equal(again.take(torch.tensor([0]))[0].permute(1, 2, 0).numpy(), noise(99))


def test_equal_names_sizes_and_times_in_another_folder_are_other_files(tmp_path: Path) -> None:
    one, two = (class_folders(tmp_path / name, {"a": 2}, start) for name, start in (("one", 0), ("two", 10)))
    for root in (one, two):
        for file in root.rglob("*.png"):
            os.utime(file, ns=(5, 5))
    assert load(one, tmp_path / "cache").fingerprint != load(two, tmp_path / "cache").fingerprint


def test_a_writer_that_wrote_half_leaves_nothing_that_is_taken_for_whole(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(json, "dumps", lambda index: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            load(root, tmp_path / "cache")
    assert len(load(root, tmp_path / "cache")) == 9


def test_a_cut_off_file_of_pixels_is_made_again(root: Path, tmp_path: Path) -> None:
    first = load(root, tmp_path / "cache")
    fingerprint, (pixels,) = first.fingerprint, (tmp_path / "cache").rglob("pixels.bin")
    del first
    pixels.write_bytes(pixels.read_bytes()[:-1])
    again = load(root, tmp_path / "cache")
    assert again.fingerprint == fingerprint
    assert again.pixels.numel() == 9 * 6 * 5 * 3


def test_jobs_that_start_together_decode_once(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, counted = reading._one, []
    monkeypatch.setattr(reading, "_one", lambda *arguments: (counted.append(1), read(*arguments))[1])
    with ThreadPoolExecutor(3) as jobs:  # the lock is on the open file, so threads exclude each other as processes do
        found = {images.fingerprint for images in jobs.map(lambda _: load(root, tmp_path / "cache"), range(3))}
    assert len(found) == 1
    assert len(counted) == 9


def test_a_cache_that_cannot_be_written_is_told_and_replaced(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    (tmp_path / "cache").write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING, "smalldata_vit"):
        assert len(load(root, tmp_path / "cache")) == 9
    assert "cannot be written" in caplog.text
    assert "dataset.cache=FOLDER" in caplog.text
    assert writable(tmp_path / "cache") == tmp_path / f"smalldata-vit-{os.getuid()}"


def test_a_full_disk_is_told_with_the_place_and_what_helps(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(opened: object, name: object, resolution: object, write: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache, "read", full)
    with pytest.raises(OSError, match=r"no space left in .*cache.*dataset.shorter_side=PIXELS"):
        load(root, tmp_path / "cache")
    assert list((tmp_path / "cache").rglob("*.bin")) == []


def test_images_can_be_stored_smaller(root: Path, tmp_path: Path) -> None:
    save(noise(1, 40, 80), root / "cat" / "large.png")
    found = load(root, tmp_path / "cache", shorter_side=20)
    assert max(found.heights.tolist()) == 20
    assert max(found.widths.tolist()) == 40
    assert max(load(root, tmp_path / "cache").heights.tolist()) == 40


def test_pictures_of_many_pages_are_read_ahead_and_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [(150, 131), (3, 5), (140, 170)]
    for i, size in enumerate(sizes):
        save(noise(i, *size), tmp_path / "a" / f"{i}.png")
    images, asked = load(tmp_path, tmp_path / "cache"), []
    assert images.mapped is not None
    monkeypatch.setattr(images.mapped, "memory", SimpleNamespace(madvise=lambda *area: asked.append(area[1:])))
    taken = images.take(torch.tensor([2, 1, 0]))
    for picture, i in zip(taken, (2, 1, 0), strict=True):
        assert np.array_equal(picture.permute(1, 2, 0).numpy(), noise(i, *sizes[i]))
    first = 3 * (150 * 131 + 3 * 5)
    page = first // PAGESIZE * PAGESIZE
    assert asked == [(page, first - page + 3 * 140 * 170), (0, 3 * 150 * 131)]
