"""Tiny copies of the layouts that torchvision reads: the facts of each config lead to the right class and splits."""

from pathlib import Path

import numpy as np
import pytest
from made_images import noise
from made_layouts import jpegs, loaded, pixels, shown, write
from PIL import Image
from scipy.io import savemat


def flowers102(root: Path) -> None:
    home = root / "flowers-102"
    jpegs(home / "jpg", [f"image_{i:05d}.jpg" for i in range(1, 9)])
    savemat(home / "imagelabels.mat", {"labels": [1, 2, 1, 2, 1, 2, 1, 2]})
    savemat(home / "setid.mat", {"trnid": [1, 2], "valid": [3, 4], "tstid": [5, 6, 7, 8]})


def numbers(splits: dict[str, str]) -> list[int]:
    return sorted(int(Path(file).stem.removeprefix("image_")) for file in splits)


def classes(found: dict[str, str]) -> list[str]:
    return [found[file] for file in sorted(found)]


def load_flowers(root: Path, **changed: object) -> tuple[list[int], list[int] | None, list[int]]:
    # Only the 102 classes are torchvision's own list; two of them have images here.
    names = ["pink primrose", "orchid"]
    found = loaded("flowers102", root, source__verify=False, source__names=names, **changed)
    val = None if found.val is None else numbers(shown(found, "val"))
    return numbers(shown(found, "train")), val, numbers(shown(found, "test"))


def test_flowers_train_on_train_and_val_or_on_the_official_parts_by_a_field(tmp_path: Path) -> None:
    flowers102(tmp_path)
    assert load_flowers(tmp_path, num_train=4, num_test=4) == ([1, 2, 3, 4], None, [5, 6, 7, 8])
    official = load_flowers(tmp_path, num_train=2, num_test=4, merge_validation=False)
    assert official == ([1, 2], [3, 4], [5, 6, 7, 8])


def test_flowers_keep_their_file_names_and_labels(tmp_path: Path) -> None:
    flowers102(tmp_path)
    found = loaded("flowers102", tmp_path, source__verify=False, source__names=["a", "b"])
    assert shown(found, "test") == {f"flowers-102/jpg/image_{i:05d}.jpg": "ba"[i % 2] for i in (5, 6, 7, 8)}


def test_flowers_with_lists_of_somebody_else_are_refused(tmp_path: Path) -> None:
    flowers102(tmp_path)
    with pytest.raises(ValueError, match=r"torchvision does not read Flowers102 from .*dataset.source.verify=false"):
        loaded("flowers102", tmp_path)


def test_listed_flowers_that_are_not_there_are_counted_and_named(tmp_path: Path) -> None:
    flowers102(tmp_path)
    (tmp_path / "flowers-102" / "jpg" / "image_00006.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 4 listed images are not in .*image_00006.jpg"):
        load_flowers(tmp_path)


def aircraft(root: Path) -> None:
    home = root / "fgvc-aircraft-2013b" / "data"
    jpegs(home / "images", [f"{i}.jpg" for i in range(6)])
    kinds = {"variant": ["707-320", "A 300"], "family": ["Boeing 707", "A300"], "manufacturer": ["Boeing", "Airbus"]}
    for (level, names), file in zip(kinds.items(), ("variants", "families", "manufacturers"), strict=True):
        write(home / f"{file}.txt", names)
        for split, images in {"train": (0, 1), "val": (2, 3), "test": (4, 5)}.items():
            write(home / f"images_{level}_{split}.txt", [f"{i} {names[i % 2]}" for i in images])


@pytest.mark.parametrize(
    ("level", "names"), [("variant", ["707-320", "A 300"]), ("manufacturer", ["Boeing", "Airbus"])]
)
def test_aircraft_are_named_by_the_level_that_is_asked_for(tmp_path: Path, level: str, names: list[str]) -> None:
    aircraft(tmp_path)
    found = loaded("aircraft", tmp_path, source__options__annotation_level=level, num_train=4, num_test=2)
    assert classes(shown(found, "test")) == names
    assert [Path(file).name for file in found.train.files] == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]


def cars(root: Path) -> None:
    home = root / "stanford_cars"
    for start, split in ((0, "train"), (10, "test")):
        jpegs(home / f"cars_{split}", [f"{i:05d}.jpg" for i in (1, 2)], start)
    (home / "devkit").mkdir()
    fields = [("fname", object), ("class", np.int64)]
    annotated = np.array([("00001.jpg", 2), ("00002.jpg", 1)], dtype=fields)
    savemat(home / "devkit" / "cars_train_annos.mat", {"annotations": annotated})
    savemat(home / "cars_test_annos_withlabels.mat", {"annotations": annotated[::-1]})
    savemat(home / "devkit" / "cars_meta.mat", {"class_names": np.array(["AM General Hummer", "Acura RL"], object)})


def test_cars_are_read_in_their_authors_layout(tmp_path: Path) -> None:
    cars(tmp_path)
    found = loaded("cars", tmp_path, num_classes=2, num_train=2, num_test=2)
    expected = {"00001.jpg": "Acura RL", "00002.jpg": "AM General Hummer"}
    for split in ("train", "test"):
        named = {f"stanford_cars/cars_{split}/{file}": name for file, name in expected.items()}
        assert shown(found, split) == named


def test_cars_cannot_be_downloaded_and_say_where_copies_are_named(tmp_path: Path) -> None:
    told = r"StanfordCars needs .*cars_test_annos_withlabels.mat in .*; missing: .*pytorch/vision/issues/7545"
    for download in (False, True):
        with pytest.raises(FileNotFoundError, match=told):
            loaded("cars", tmp_path, source__download=download)


def pets(root: Path) -> None:
    home = root / "oxford-iiit-pet"
    listed = {"trainval": ["Abyssinian_1", "great_dane_1"], "test": ["great_dane_2", "Abyssinian_2"]}
    for start, (split, names) in enumerate(listed.items()):
        jpegs(home / "images", [f"{name}.jpg" for name in names], 10 * start)
        rows = [f"{name} {1 + name.startswith('great')} 1 1" for name in names]
        write(home / "annotations" / f"{split}.txt", rows)


def test_pets_are_split_by_their_own_lists(tmp_path: Path) -> None:
    pets(tmp_path)
    found = loaded("pets", tmp_path, num_classes=2, num_train=2, num_test=2)
    assert classes(shown(found, "train")) == ["Abyssinian", "Great Dane"]
    assert classes(shown(found, "test")) == ["Great Dane", "Abyssinian"]


def test_a_pet_that_is_no_image_is_an_error_with_its_place(tmp_path: Path) -> None:
    pets(tmp_path)
    (tmp_path / "oxford-iiit-pet" / "images" / "great_dane_2.jpg").write_bytes(b"nothing")
    with pytest.raises(
        ValueError, match=r"1 of 2 test images cannot be read:\s+OxfordIIITPet-test/000000: .*great_dane_2"
    ):
        loaded("pets", tmp_path)


def test_grey_palette_and_cmyk_pets_become_rgb(tmp_path: Path) -> None:
    pets(tmp_path)
    home = tmp_path / "oxford-iiit-pet" / "images"
    palette, inks = Image.fromarray(noise(2)).quantize(16), Image.fromarray(noise(3)).convert("CMYK")
    palette.save(home / "Abyssinian_1.jpg", format="PNG")
    inks.save(home / "great_dane_1.jpg", format="TIFF")
    found = list(pixels(loaded("pets", tmp_path), "train").values())
    assert np.array_equal(found[0], np.asarray(palette.convert("RGB")))
    assert np.array_equal(found[1], np.asarray(inks.convert("RGB")))


def dtd(root: Path) -> None:
    home = root / "dtd" / "dtd"
    names = [f"{c}/{c}_{i}.jpg" for c in ("banded", "dotted") for i in range(3)]
    jpegs(home / "images", names)
    for partition in (1, 2):
        for place, split in enumerate(("train", "val", "test")):
            number = (place + partition - 1) % 3
            write(home / "labels" / f"{split}{partition}.txt", [n for n in names if n.endswith(f"_{number}.jpg")])


@pytest.mark.parametrize(("partition", "trained", "tested"), [(1, {0, 1}, 2), (2, {1, 2}, 0)])
def test_dtd_takes_the_partition_that_is_asked_for(
    tmp_path: Path, partition: int, trained: set[int], tested: int
) -> None:
    dtd(tmp_path)
    found = loaded("dtd", tmp_path, source__options__partition=partition, num_train=4, num_test=2)
    assert {int(Path(file).stem[-1]) for file in found.train.files} == trained
    of = {f"dtd/dtd/images/{c}/{c}_{tested}.jpg": c for c in ("banded", "dotted")}
    assert shown(found, "test") == of


def test_svhn_calls_the_digit_ten_zero(tmp_path: Path) -> None:
    for start, split in ((0, "train"), (10, "test")):
        pictures = np.stack([noise(start + i, 32, 32) for i in range(10)], axis=3)
        savemat(tmp_path / f"{split}_32x32.mat", {"X": pictures, "y": np.arange(1, 11)[:, None]})
    found = loaded("svhn", tmp_path, source__verify=False, num_classes=10, num_train=10, num_test=10)
    assert found.train.labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]
    assert np.array_equal(pixels(found, "test")["SVHN-test/000009"], noise(19, 32, 32))
