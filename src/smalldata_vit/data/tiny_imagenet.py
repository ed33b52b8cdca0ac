"""Tiny-ImageNet: 200 classes of ImageNet at 64 x 64 (Stanford CS231N, 2015), with `val` as it came or sorted.

Its test part has no labels; everybody is judged on `val`.
"""

from pathlib import Path

from smalldata_vit.data.decode import ENDINGS
from smalldata_vit.data.listed import Lists, rows
from smalldata_vit.data.split_folders import class_folders, labelled

ANNOTATIONS = "val/val_annotations.txt"


def tiny_imagenet(home: Path) -> Lists:
    """Train, and `val` as the test split: flat in `val/images` with its annotations, or in class folders below `val`.

    Class folders may also lie in `val/images`, and images in a folder `images` inside each class folder.
    """
    train = class_folders(home, "train")
    names = list(train)
    if not names:
        raise ValueError(f"{home / 'train'} has no class folder with an image in it")
    test = _flat(home, names) if _is_flat(home / "val" / "images") else _sorted(home, names)
    return Lists(names, {"train": labelled(train, names, f"{home}, train"), "test": test})


def _is_flat(folder: Path) -> bool:
    return folder.is_dir() and any(p.suffix.lower() in ENDINGS and p.is_file() for p in folder.iterdir())


def _flat(home: Path, names: list[str]) -> list[tuple[str, int]]:
    if not (home / ANNOTATIONS).is_file():
        raise FileNotFoundError(
            f"{home / 'val' / 'images'} holds images of all classes, and {home / ANNOTATIONS}, which says what they "
            "show, is not there: take it from the archive, or sort the images into class folders"
        )
    label = {name: number for number, name in enumerate(names)}
    found = []
    for file, name in rows(home / ANNOTATIONS, columns=2, separator="\t"):
        if name not in label:
            raise ValueError(f"{home / ANNOTATIONS} says that {file} is {name}, which is no folder of {home / 'train'}")
        found.append((f"val/images/{file}", label[name]))
    return found


def _sorted(home: Path, names: list[str]) -> list[tuple[str, int]]:
    # `images` left empty by whoever sorted the files is no class; with class folders in it, it is what holds them.
    inside = home / "val" / "images"
    folder = "val/images" if inside.is_dir() and any(p.is_dir() for p in inside.iterdir()) else "val"
    return labelled(class_folders(home, folder), names, f"{home}, {folder}")
