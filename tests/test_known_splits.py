"""A dataset's hash is known again while its files are untouched, and never after any of them was touched."""

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import instantiate

from smalldata_vit import config as configuration
from smalldata_vit import known_splits

HASH = "a" * 64


@dataclass
class Loaded:
    split_hash: str = HASH


def load(_: Any) -> Loaded:
    return Loaded()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True)
            for number in range(3):
                (root / split / name / f"{number}.png").write_bytes(f"{split}{name}{number}".encode())
    return root


@pytest.fixture
def stage(images: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The config of a stage on class folders; files count as settled at once."""
    monkeypatch.setattr(known_splits, "SETTLED", 0.0)
    words = ["method=supervised", "dataset=folder", f"dataset.root={images}", "dataset.image_size=8"]
    return configuration.stage_config(configuration.compose(words), "finetune")


def recalled_after(stage: dict[str, Any], change: Callable[[], object]) -> str | None:
    known_splits.remembering(stage, load)
    assert known_splits.recalled(stage) == HASH
    time.sleep(0.02)  # two ticks of the clock that files are dated by
    change()
    return known_splits.recalled(stage)


def test_untouched_files_are_known_again(stage: dict[str, Any]) -> None:
    assert known_splits.recalled(stage) is None
    assert recalled_after(stage, lambda: None) == HASH


def test_an_image_whose_bytes_changed_is_not_known(stage: dict[str, Any], images: Path) -> None:
    assert recalled_after(stage, lambda: (images / "train/cat/1.png").write_bytes(b"something else")) is None


def test_other_bytes_of_the_same_size_and_date_are_not_known(stage: dict[str, Any], images: Path) -> None:
    file = images / "train/cat/1.png"
    before = file.stat()

    def change() -> None:
        file.write_bytes(b"x" * before.st_size)
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert recalled_after(stage, change) is None
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


@pytest.mark.parametrize("split", ["train", "test"])
def test_an_added_image_is_not_known(stage: dict[str, Any], images: Path, split: str) -> None:
    assert recalled_after(stage, lambda: (images / split / "dog/9.png").write_bytes(b"new")) is None


def test_a_removed_image_is_not_known(stage: dict[str, Any], images: Path) -> None:
    assert recalled_after(stage, lambda: (images / "test/dog/0.png").unlink()) is None


def test_a_renamed_image_is_not_known(stage: dict[str, Any], images: Path) -> None:
    assert recalled_after(stage, lambda: (images / "train/dog/0.png").rename(images / "train/cat/7.png")) is None


def test_a_file_put_in_the_place_of_another_with_all_its_dates_is_not_known(
    stage: dict[str, Any], images: Path, tmp_path: Path
) -> None:
    file, other = images / "train/cat/1.png", tmp_path / "other.png"
    shutil.copy2(file, other)
    assert recalled_after(stage, lambda: other.replace(file)) is None


def test_a_change_behind_a_link_is_not_known(stage: dict[str, Any], images: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (images / "train/dog").rename(elsewhere)
    (images / "train/dog").symlink_to(elsewhere)
    (elsewhere / "up").symlink_to(images)  # back to where it began
    assert recalled_after(stage, lambda: (elsewhere / "0.png").write_bytes(b"other")) is None


def test_a_folder_that_went_away_is_not_known(stage: dict[str, Any], images: Path) -> None:
    assert recalled_after(stage, lambda: shutil.rmtree(images)) is None


@pytest.mark.parametrize(
    ("key", "value"), [("validation_seed", 5), ("fraction", 0.5), ("shorter_side", 4), ("on_bad_image", "skip")]
)
def test_other_settings_of_the_dataset_are_not_known(stage: dict[str, Any], key: str, value: object) -> None:
    assert stage["dataset"][key] != value
    assert recalled_after(stage, lambda: stage["dataset"].update({key: value})) is None


def test_another_seed_is_not_known(stage: dict[str, Any]) -> None:
    assert recalled_after(stage, lambda: stage.update(seed=7)) is None


def test_another_version_of_what_reads_images_is_not_known(
    stage: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert recalled_after(stage, lambda: monkeypatch.setattr(known_splits, "version", lambda name: "99")) is None


def test_files_changed_a_moment_ago_are_not_trusted(stage: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    known_splits.remembering(stage, load)
    monkeypatch.setattr(known_splits, "SETTLED", 3600.0)
    assert known_splits.recalled(stage) is None


def test_files_that_change_while_they_are_read_are_not_remembered(stage: dict[str, Any], images: Path) -> None:
    def slow(_: Any) -> Loaded:
        time.sleep(0.02)
        (images / "train/cat/0.png").write_bytes(b"changed meanwhile")
        return Loaded()

    known_splits.remembering(stage, slow)
    assert known_splits.recalled(stage) is None


def test_a_dataset_of_somebody_elses_code_is_never_trusted(stage: dict[str, Any]) -> None:
    stage["dataset"]["source"] = {"_target_": "mine.Pictures"}
    known_splits.remembering(stage, load)
    assert known_splits.recalled(stage) is None


@pytest.mark.parametrize("damage", [b"", b"{", b'"abc"', b"17", b"\xff\xfe"])
def test_a_damaged_memory_is_ignored_and_made_anew(stage: dict[str, Any], damage: bytes) -> None:
    known_splits.remembering(stage, load)
    inputs = known_splits.inputs_of(stage, time.time())
    assert inputs is not None
    known_splits._place(stage, inputs).write_bytes(damage)
    assert known_splits.recalled(stage) is None
    known_splits.remembering(stage, load)
    assert known_splits.recalled(stage) == HASH


def test_without_a_place_to_write_the_splits_are_loaded_all_the_same(
    stage: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SMALLDATA_VIT_CACHE", str(tmp_path / "file"))
    assert known_splits.remembering(stage, load) == Loaded()
    assert known_splits.recalled(stage) is None


@pytest.mark.parametrize("root", [None, "somewhere"])
@pytest.mark.parametrize("dataset", configuration.options("dataset"))
def test_what_is_watched_is_what_the_source_is_told_to_read(
    dataset: str, root: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [f"dataset={dataset}", "dataset.image_size=8"] + ([] if root is None else [f"dataset.root={root}"])
    settings = configuration.stage_config(configuration.compose(words), "pretrain")["dataset"]
    if settings["layout"] == "folder" and root is None:
        pytest.skip("class folders have no place of their own")
    told: list[Path] = []
    made = instantiate(settings, _convert_="all")

    class Stop(Exception):
        pass

    class Told:
        def splits(self, root: Path) -> None:
            told.append(root)
            raise Stop

    made.source = Told()
    with pytest.raises(Stop):
        made.load(0)
    watched = known_splits.places_of(settings)
    assert watched
    assert all(place.is_relative_to(told[0].absolute()) for place in watched)
    files = settings["source"].get("files") if settings["layout"] == "official" else None
    assert watched == ([told[0].absolute()] if files is None else [told[0].absolute() / name for name in files])
