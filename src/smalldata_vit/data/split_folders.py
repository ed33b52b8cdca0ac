"""Class folders in a folder per split, where the config says which folder is which split."""

import os
from collections.abc import Mapping
from pathlib import Path

from smalldata_vit.data.decode import ENDINGS
from smalldata_vit.data.listed import Lists


def split_folders(home: Path, splits: Mapping[str, str | None]) -> Lists:
    """The class folders below `home`; `splits` names the folder of each split, null for one that is not wanted.

    The classes are those of the training images, sorted; ValueError says where another split has others.
    """
    trees = {split: class_folders(home, folder) for split, folder in splits.items() if folder is not None}
    names = list(trees["train"])
    if not names:
        raise ValueError(f"{home / str(splits['train'])} has no class folder with an image in it")
    return Lists(names, {split: labelled(tree, names, f"{home}, {split}") for split, tree in trees.items()})


def class_folders(home: Path, folder: str) -> dict[str, list[str]]:
    """By class, both sorted: the files of its images below `home`, also those in folders inside the class folder.

    Hidden folders, and folders without an image, are no classes.
    """
    place = home / folder
    if not place.is_dir():
        there = ", ".join(sorted(p.name for p in home.iterdir())) or "nothing"
        raise FileNotFoundError(f"{home} has no folder {folder}; it has {there}")
    classes = sorted(p for p in place.iterdir() if p.is_dir() and not p.name.startswith("."))
    found = {p.name: [str(file.relative_to(home)) for file in _images(p)] for p in classes}
    return {name: files for name, files in found.items() if files}


def labelled(tree: Mapping[str, list[str]], names: list[str], place: str) -> list[tuple[str, int]]:
    """Files with their labels, class by class; ValueError if the classes are not `names`."""
    if missing := [name for name in names if name not in tree]:
        raise ValueError(f"{place}: no images of {len(missing)} of {len(names)} classes: {', '.join(missing[:10])}")
    if extra := [name for name in tree if name not in names]:
        raise ValueError(f"{place}: {', '.join(extra[:10])} are no classes of the training images")
    return [(file, label) for label, name in enumerate(names) for file in tree[name]]


def _images(folder: Path) -> list[Path]:
    """Image files in the folder and below it, sorted."""
    found = [Path(place, file) for place, _, files in os.walk(folder) for file in files if not file.startswith(".")]
    return sorted(path for path in found if path.suffix.lower() in ENDINGS)
