import json
from pathlib import Path

import numpy as np
import pytest
from made_images import noise, save
from made_layouts import jpegs, loaded, pixels, shown, write
from PIL import Image


@pytest.mark.parametrize(("judge", "test", "val"), [("test", "test", "valid"), ("valid", "valid", "test")])
def test_cinic_10_is_judged_on_the_folder_that_is_asked_for(tmp_path: Path, judge: str, test: str, val: str) -> None:
    for number, part in enumerate(("train", "valid", "test")):
        jpegs(tmp_path / "CINIC-10", [f"{part}/{c}/{i}.png" for c in ("bird", "cat") for i in range(2)], number * 10)
    found = loaded("cinic10", tmp_path, source__lists__judge=judge)
    for split, folder in {"train": "train", "val": val, "test": test}.items():
        assert shown(found, split) == {f"{folder}/{c}/{i}.png": c for c in ("bird", "cat") for i in range(2)}


def cub200(root: Path) -> Path:
    home = root / "CUB_200_2011"
    files = [f"{c}/b_{i}.jpg" for c in ("001.Albatross", "002.Auklet") for i in range(3)]
    jpegs(home / "images", files)
    write(home / "images.txt", [f"{i} {file}" for i, file in enumerate(files, start=1)])
    write(home / "classes.txt", ["1 001.Albatross", "2 002.Auklet"])
    write(home / "image_class_labels.txt", [f"{i} {1 + i // 4}" for i in range(1, 7)])
    write(home / "train_test_split.txt", [f"{i} {i % 2}" for i in range(1, 7)])
    return home


def test_cub_is_split_and_labelled_by_its_own_lists(tmp_path: Path) -> None:
    cub200(tmp_path)
    found = loaded("cub200", tmp_path, num_classes=2, num_train=3, num_test=3)
    albatross, auklet = "images/001.Albatross/b_{}.jpg".format, "images/002.Auklet/b_{}.jpg".format
    train = {albatross(0): "001.Albatross", albatross(2): "001.Albatross", auklet(1): "002.Auklet"}
    test = {albatross(1): "001.Albatross", auklet(0): "002.Auklet", auklet(2): "002.Auklet"}
    assert (shown(found, "train"), shown(found, "test")) == (train, test)


@pytest.mark.parametrize(
    ("file", "lines", "told"),
    [
        ("train_test_split.txt", ["1 1"], r"images.txt has 6 images, train_test_split.txt has 1"),
        ("image_class_labels.txt", [f"{i} 7" for i in range(1, 7)], r"has classes that classes.txt lacks: 7"),
        ("images.txt", ["1 a.jpg", "2"], r"images.txt, line 2, has 1 of 2 words: '2'"),
    ],
)
def test_cub_s_lists_must_fit_together(tmp_path: Path, file: str, lines: list[str], told: str) -> None:
    write(cub200(tmp_path) / file, lines)
    with pytest.raises(ValueError, match=told):
        loaded("cub200", tmp_path)


def test_listed_images_that_are_not_there_are_counted_and_named(tmp_path: Path) -> None:
    home = cub200(tmp_path)
    (home / "images" / "001.Albatross" / "b_2.jpg").unlink()
    told = r"CUB-200-2011: 1 of 3 listed images are not in .*: images/001.Albatross/b_2.jpg. It was not unpacked whole"
    with pytest.raises(FileNotFoundError, match=told):
        loaded("cub200", tmp_path)


def indoor67(root: Path) -> Path:
    home = root / "indoorCVPR_09"
    jpegs(home / "Images", [f"{c}/r {i}.jpg" for c in ("bar", "gym") for i in range(3)])
    write(home / "TrainImages.txt", ["gym/r 0.jpg", "bar/r 1.jpg"])
    write(home / "TestImages.txt", ["bar/r 0.jpg", "gym/r 2.jpg "])
    return home


def test_indoor_67_takes_the_images_of_its_two_lists_and_no_others(tmp_path: Path) -> None:
    indoor67(tmp_path)
    found = loaded("indoor67", tmp_path, num_classes=2, num_train=2, num_test=2)
    assert shown(found, "train") == {"Images/gym/r 0.jpg": "gym", "Images/bar/r 1.jpg": "bar"}
    assert shown(found, "test") == {"Images/bar/r 0.jpg": "bar", "Images/gym/r 2.jpg": "gym"}


@pytest.mark.parametrize(
    ("line", "told"),
    [("spa/r 0.jpg", "names classes without training images: spa"), ("r.jpg", "'r.jpg': expected is CLASS/FILE")],
)
def test_indoor_67_refuses_lists_that_make_no_sense(tmp_path: Path, line: str, told: str) -> None:
    write(indoor67(tmp_path) / "TestImages.txt", [line])
    with pytest.raises(ValueError, match=told):
        loaded("indoor67", tmp_path)


def chaoyang(root: Path) -> Path:
    home = root / "chaoyang-data"
    for start, split in ((0, "train"), (10, "test")):
        files = [f"{split}/IMG{i}.JPG" for i in range(4)]
        jpegs(home, files, start)
        listed = [{"name": file, "label": i} for i, file in enumerate(files)]
        write(home / f"{split}.json", [json.dumps(listed)])
    return home


def test_chaoyang_is_split_and_labelled_by_its_json_files(tmp_path: Path) -> None:
    chaoyang(tmp_path)
    found = loaded("chaoyang", tmp_path, num_classes=4, num_train=4, num_test=4)
    kinds = ["normal", "serrated", "adenocarcinoma", "adenoma"]
    for split in ("train", "test"):
        assert shown(found, split) == {f"{split}/IMG{i}.JPG": kind for i, kind in enumerate(kinds)}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[{"name": "train/IMG0.JPG", "label": 4}]', r"has labels \[4\]; Chaoyang's are 0 to 3"),
        ('[{"file": "train/IMG0.JPG", "label": 0}]', r"is no list of .*KeyError: 'name'"),
        ("{", r"train.json is no list of .*JSONDecodeError"),
    ],
)
def test_a_json_file_that_is_no_list_of_names_and_labels_is_refused(tmp_path: Path, text: str, told: str) -> None:
    write(chaoyang(tmp_path) / "train.json", [text])
    with pytest.raises(ValueError, match=told):
        loaded("chaoyang", tmp_path)


def test_a_set_that_nobody_may_download_says_where_it_is_to_be_asked_for(tmp_path: Path) -> None:
    told = r"Chaoyang needs .*train.json.*no program can fetch them.*HSA-NRL/ \(its authors send it on request\)"
    with pytest.raises(FileNotFoundError, match=told):
        loaded("chaoyang", tmp_path, source__download=True)


def test_imagenet_is_judged_on_its_val_folder(tmp_path: Path) -> None:
    for start, part in ((0, "train"), (10, "val")):
        jpegs(tmp_path, [f"{part}/{c}/{i}.JPEG" for c in ("n02", "n01") for i in range(2)], start)
    found = loaded("imagenet", tmp_path, num_classes=2, num_train=4, num_test=4)
    assert shown(found, "test") == {f"val/{c}/{i}.JPEG": c for c in ("n02", "n01") for i in range(2)}
    assert found.val is None


@pytest.mark.parametrize(
    ("extra", "told"),
    [(["val/n01/0.JPEG", "val/n03/0.JPEG"], "n03 are no classes of the training"), ([], "no images of 1 of 1 classes")],
)
def test_splits_with_other_classes_are_refused(tmp_path: Path, extra: list[str], told: str) -> None:
    jpegs(tmp_path, ["train/n01/0.JPEG", *extra])
    (tmp_path / "val").mkdir(exist_ok=True)
    with pytest.raises(ValueError, match=told):
        loaded("imagenet", tmp_path)


def test_grey_palette_and_cmyk_files_become_rgb(tmp_path: Path) -> None:
    home = chaoyang(tmp_path)
    grey = Image.fromarray(noise(1)[:, :, 0])
    palette = Image.fromarray(noise(2)).quantize(16)
    inks = Image.fromarray(noise(3)).convert("CMYK")
    grey.save(home / "train" / "IMG0.JPG", format="PNG")
    palette.save(home / "train" / "IMG1.JPG", format="PNG")
    inks.save(home / "train" / "IMG2.JPG", format="TIFF")
    found = pixels(loaded("chaoyang", tmp_path), "train")
    for name, image in (("IMG0", grey), ("IMG1", palette), ("IMG2", inks)):
        assert np.array_equal(found[f"train/{name}.JPG"], np.asarray(image.convert("RGB")))


def test_an_image_that_changes_is_read_anew(tmp_path: Path) -> None:
    home = chaoyang(tmp_path)
    loaded("chaoyang", tmp_path)
    save(noise(99, 4, 4), home / "train" / "IMG0.JPG")
    assert pixels(loaded("chaoyang", tmp_path), "train")["train/IMG0.JPG"].shape == (4, 4, 3)


def test_labels_that_change_are_read_anew(tmp_path: Path) -> None:
    home = chaoyang(tmp_path)
    loaded("chaoyang", tmp_path)
    listed = [{"name": f"train/IMG{i}.JPG", "label": 3 - i} for i in range(4)]
    write(home / "train.json", [json.dumps(listed)])
    assert shown(loaded("chaoyang", tmp_path), "train")["train/IMG0.JPG"] == "adenoma"
