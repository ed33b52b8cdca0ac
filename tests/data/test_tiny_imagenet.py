from pathlib import Path

import pytest
from made_layouts import jpegs, loaded, shown, write


def tiny_imagenet(root: Path) -> Path:
    """Two classes as in the official archive: train/CLASS/images, val/images with val_annotations.txt."""
    home = root / "tiny-imagenet-200"
    jpegs(home, [f"train/{c}/images/{c}_{i}.JPEG" for c in ("n02", "n01") for i in range(3)])
    write(home / "train" / "n01" / "n01_boxes.txt", ["n01_0.JPEG\t0\t0\t8\t8"])
    jpegs(home, [f"val/images/val_{i}.JPEG" for i in range(4)], start=20)
    labels = ["n02", "n01", "n01", "n02"]
    write(home / "val" / "val_annotations.txt", [f"val_{i}.JPEG\t{c}\t0\t0\t7\t7" for i, c in enumerate(labels)])
    jpegs(home, ["test/images/test_0.JPEG"], start=30)
    return home


FLAT = {f"val/images/val_{i}.JPEG": c for i, c in enumerate(["n02", "n01", "n01", "n02"])}


def test_tiny_imagenet_is_read_as_it_comes_and_judged_on_its_val(tmp_path: Path) -> None:
    tiny_imagenet(tmp_path)
    found = loaded("tiny_imagenet", tmp_path, num_classes=2, num_train=6, num_test=4)
    assert shown(found, "test") == FLAT
    assert set(shown(found, "train")) == {f"train/{c}/images/{c}_{i}.JPEG" for c in ("n01", "n02") for i in range(3)}
    assert all(c in file for file, c in shown(found, "train").items())
    assert found.val is None


def test_the_root_may_be_the_dataset_s_own_folder_whatever_it_is_called(tmp_path: Path) -> None:
    home = tiny_imagenet(tmp_path).rename(tmp_path / "mine")
    assert shown(loaded("tiny_imagenet", home), "test") == FLAT


@pytest.mark.parametrize("place", ["val/{c}/{f}", "val/{c}/images/{f}", "val/images/{c}/{f}"])
@pytest.mark.parametrize("leftover", [True, False])
def test_tiny_imagenet_s_val_may_be_sorted_into_class_folders(tmp_path: Path, place: str, leftover: bool) -> None:
    home = tiny_imagenet(tmp_path)
    for file, name in FLAT.items():
        target = home / place.format(c=name, f=Path(file).name)
        target.parent.mkdir(parents=True, exist_ok=True)
        (home / file).rename(target)
    if not leftover:
        (home / "val" / "val_annotations.txt").unlink()
    found = shown(loaded("tiny_imagenet", tmp_path), "test")
    assert {Path(file).name: name for file, name in found.items()} == {Path(f).name: c for f, c in FLAT.items()}


def test_a_flat_val_without_its_annotations_is_refused(tmp_path: Path) -> None:
    (tiny_imagenet(tmp_path) / "val" / "val_annotations.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"val_annotations.txt, which says what they show, is not there"):
        loaded("tiny_imagenet", tmp_path)


def test_annotations_of_a_class_without_training_images_are_refused(tmp_path: Path) -> None:
    home = tiny_imagenet(tmp_path)
    write(home / "val" / "val_annotations.txt", ["val_0.JPEG\tn09\t0\t0\t7\t7"])
    with pytest.raises(ValueError, match=r"says that val_0.JPEG is n09, which is no folder of .*train"):
        loaded("tiny_imagenet", tmp_path)


def test_other_counts_than_the_config_s_are_an_error_with_both_numbers(tmp_path: Path) -> None:
    tiny_imagenet(tmp_path)
    told = r"num_classes is 2, expected 200, num_train is 6, expected 100000, num_test is 4, expected 10000"
    with pytest.raises(ValueError, match=told):
        loaded("tiny_imagenet", tmp_path, num_classes=200, num_train=100000, num_test=10000)


def test_missing_parts_are_named_with_their_folder_and_page(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error:
        loaded("tiny_imagenet", tmp_path)
    told = str(error.value)
    assert f"Tiny-ImageNet needs train/, val/ in {tmp_path / 'tiny-imagenet-200'}; missing: train/, val/" in told
    assert "http://cs231n.stanford.edu/tiny-imagenet-200.zip" in told
