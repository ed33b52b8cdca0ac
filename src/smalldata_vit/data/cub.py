"""CUB-200-2011: Wah, Branson, Welinder, Perona, Belongie, The Caltech-UCSD Birds-200-2011 Dataset (2011)."""

from pathlib import Path

from smalldata_vit.data.listed import Lists, rows


def cub200(home: Path) -> Lists:
    """Train and test by `train_test_split.txt`, labels by `image_class_labels.txt`; images are counted from 1."""
    names = dict(_pairs(home / "classes.txt"))
    file = dict(_pairs(home / "images.txt"))
    shown = dict(_pairs(home / "image_class_labels.txt"))
    trains = dict(_pairs(home / "train_test_split.txt"))
    for other in ("image_class_labels.txt", "train_test_split.txt"):
        known = shown if other == "image_class_labels.txt" else trains
        if known.keys() != file.keys():
            raise ValueError(f"{home}: images.txt has {len(file)} images, {other} has {len(known)}, or other numbers")
    label = {number: place for place, number in enumerate(names)}
    if strange := sorted(set(shown.values()) - label.keys()):
        raise ValueError(f"{home / 'image_class_labels.txt'} has classes that classes.txt lacks: {', '.join(strange)}")
    splits: dict[str, list[tuple[str, int]]] = {"train": [], "test": []}
    for image, path in file.items():
        splits["train" if trains[image] == "1" else "test"].append((f"images/{path}", label[shown[image]]))
    return Lists(list(names.values()), splits)


def _pairs(path: Path) -> list[tuple[str, str]]:
    return [(number, value) for number, value in rows(path, columns=2)]
