import os
from pathlib import Path

import numpy as np
import pytest
from made_images import class_folders, noise, save

from smalldata_vit.data.decode import BadImage
from smalldata_vit.data.folders import Folders
from smalldata_vit.data.sources import Opened, RawSplit


def ignored(split: RawSplit) -> dict[str, list[str]]:
    return {reason: list(names) for reason, names in split.ignored.items()}


def train(root: Path) -> Opened:
    return Folders().splits(root)["train"].open()


def test_class_folders_alone_are_training_images_with_sorted_classes(tmp_path: Path) -> None:
    opened = train(class_folders(tmp_path, {"dog": 2, "Cat": 1, "ant": 1}))
    assert list(opened.names) == ["Cat", "ant", "dog"]
    assert list(opened.files) == ["Cat/000.png", "ant/000.png", "dog/000.png", "dog/001.png"]
    assert [opened.item(i)[1] for i in range(4)] == [0, 1, 2, 2]
    assert np.array_equal(opened.item(3)[0], noise(1))


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Valid"])
def test_valid_and_validation_are_val(name: str, tmp_path: Path) -> None:
    for split in ("train", name, "test"):
        class_folders(tmp_path / split, {"a": 1, "b": 1})
    splits = Folders().splits(tmp_path)
    assert sorted(splits) == ["test", "train", "val"]
    assert list(splits["val"].open().files) == [f"{name}/a/000.png", f"{name}/b/000.png"]


def test_two_folders_that_both_mean_val_are_refused(tmp_path: Path) -> None:
    for split in ("train", "val", "valid"):
        class_folders(tmp_path / split, {"a": 1})
    with pytest.raises(ValueError, match="val and valid, which both mean val"):
        Folders().splits(tmp_path)


def test_val_and_test_without_train_are_refused(tmp_path: Path) -> None:
    class_folders(tmp_path / "test", {"a": 1})
    with pytest.raises(ValueError, match="has test, but no folder called train"):
        Folders().splits(tmp_path)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"dataset.root=.*gone is not a folder"):
        Folders().splits(tmp_path / "gone")


def test_a_folder_without_any_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "notes.txt").write_text("no image")
    with pytest.raises(ValueError, match="has no class folder with an image"):
        Folders().splits(tmp_path)


def test_stray_things_are_ignored_and_named_and_shift_no_label(tmp_path: Path) -> None:
    class_folders(tmp_path, {"b": 1, "a": 1, ".ipynb_checkpoints": 1, "__MACOSX": 1})
    (tmp_path / "0_empty").mkdir()
    (tmp_path / "a" / "._000.png").write_bytes(b"\x00\x05\x16\x07")
    for name in ("Thumbs.db", ".DS_Store", "notes.txt"):
        (tmp_path / "a" / name).write_bytes(b"?")
    save(noise(9), tmp_path / "stray.png")
    split = Folders().splits(tmp_path)["train"]
    assert list(split.open().names) == ["a", "b"]
    assert len(split.open().files) == 2
    assert ignored(split) == {
        "hidden, or left by a desktop": [
            ".ipynb_checkpoints", "__MACOSX", "a/.DS_Store", "a/._000.png", "a/Thumbs.db",
        ],
        "not an image by its name": ["a/notes.txt"],
        "not in a class folder": ["stray.png"],
        "folders without an image": ["0_empty"],
    }  # fmt: skip


def test_what_lies_beside_the_splits_is_named(tmp_path: Path) -> None:
    class_folders(tmp_path / "train", {"a": 1})
    class_folders(tmp_path / "extra", {"a": 1})
    split = Folders().splits(tmp_path)["train"]
    assert ignored(split) == {"beside the folders of the splits": ["extra"]}


def test_the_classes_of_the_splits_must_agree_and_the_message_lists_both(tmp_path: Path) -> None:
    class_folders(tmp_path / "train", {"a": 1, "b": 1})
    class_folders(tmp_path / "val", {"a": 1, "c": 1})
    with pytest.raises(ValueError, match="missing here b, only here c"):
        Folders().splits(tmp_path)


def test_a_class_folder_that_is_empty_in_val_alone_keeps_its_label(tmp_path: Path) -> None:
    class_folders(tmp_path / "train", {"a": 1, "b": 1, "c": 1})
    class_folders(tmp_path / "val", {"a": 1, "c": 1})
    (tmp_path / "val" / "b").mkdir()
    opened = Folders().splits(tmp_path)["val"].open()
    assert [opened.item(i)[1] for i in range(2)] == [0, 2]


def test_every_ending_counts_in_upper_case_too_and_formats_mix(tmp_path: Path) -> None:
    for name in ("a.JPG", "b.webp", "c.bmp", "d.tiff", "e.gif", "f.png", "g.JpEg"):
        save(noise(0), tmp_path / "x" / name)
    assert len(train(tmp_path).files) == 7


def test_images_in_folders_inside_a_class_folder_belong_to_the_class(tmp_path: Path) -> None:
    class_folders(tmp_path / "a", {"first": 2, "second": 1})
    class_folders(tmp_path, {"b": 1})
    opened = train(tmp_path)
    assert list(opened.names) == ["a", "b"]
    assert list(opened.files)[:3] == ["a/first/000.png", "a/first/001.png", "a/second/000.png"]


def test_a_loop_of_links_and_a_second_link_add_no_image(tmp_path: Path) -> None:
    class_folders(tmp_path, {"a": 3, "b": 2})
    (tmp_path / "a" / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "a" / "self").symlink_to(tmp_path / "a", target_is_directory=True)
    (tmp_path / "a" / "again.png").symlink_to(tmp_path / "a" / "000.png")
    split = Folders().splits(tmp_path)["train"]
    files = list(split.open().files)
    assert sorted(os.path.realpath(tmp_path / f) for f in files) == sorted(
        os.path.realpath(p) for p in tmp_path.glob("[ab]/0*.png")
    )
    assert ignored(split) == {"another link to what was read already": ["a/again.png", "a/loop", "a/self"]}


@pytest.mark.parametrize("target", ["", "val", "train", "train/b", "..", "val/a"])
def test_a_link_to_another_class_or_split_brings_nothing_in_under_a_wrong_name(target: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    class_folders(root / "train", {"a": 2, "b": 2})
    class_folders(root / "val", {"a": 2, "b": 2}, start=4)
    (root / "train" / "a" / "link").symlink_to((root / target).resolve(), target_is_directory=True)
    opened = train(root)
    own = ["train/a/000.png", "train/a/001.png", "train/b/000.png", "train/b/001.png"]
    through_link = [f for f in opened.files if f not in own]
    assert [f for f in opened.files if f in own] == own
    assert through_link == ([] if target != "val/a" else ["train/a/link/000.png", "train/a/link/001.png"])


def test_links_to_images_elsewhere_are_read(tmp_path: Path) -> None:
    class_folders(tmp_path / "store", {"x": 2})
    (tmp_path / "root" / "a").mkdir(parents=True)
    for i in range(2):
        (tmp_path / "root" / "a" / f"{i}.png").symlink_to(tmp_path / "store" / "x" / f"00{i}.png")
    assert np.array_equal(train(tmp_path / "root").item(1)[0], noise(1))


def test_a_broken_link_is_listed_and_refused_when_read(tmp_path: Path) -> None:
    class_folders(tmp_path, {"a": 1})
    (tmp_path / "a" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    opened = train(tmp_path)
    assert list(opened.files) == ["a/000.png", "a/gone.png"]
    with pytest.raises(BadImage, match="a link to a file that is not there"):
        opened.item(1)


def test_unusual_names_are_read_and_can_be_written_anywhere(tmp_path: Path) -> None:
    names = [
        "mit leerzeichen = übung.png",
        "e\u0301.png",
        "\u00e9.png",
        "x" * 240 + ".png",
        os.fsdecode(b"\xff\xfe.png"),
    ]
    for i, name in enumerate(names):
        picture = save(noise(i), tmp_path / "a" / "made.png")
        picture.rename(tmp_path / "a" / name)
    opened = train(tmp_path)
    assert len(opened.files) == 5
    assert all(file.encode("utf-8") for file in opened.files)
    assert {opened.item(i)[0].tobytes() for i in range(5)} == {noise(i).tobytes() for i in range(5)}
