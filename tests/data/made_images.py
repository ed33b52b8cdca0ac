"""Folders of small images, made for a test."""

from pathlib import Path

import numpy as np
from PIL import Image

from smalldata_vit.data.dataset import Dataset
from smalldata_vit.data.folders import Folders
from smalldata_vit.data.sources import Source


def noise(seed: int, height: int = 6, width: int = 5) -> np.ndarray:
    """A picture like no other, uint8 (height, width, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def save(picture: np.ndarray, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
    return path


def class_folders(root: Path, counts: dict[str, int], start: int = 0) -> Path:
    """`counts` PNG files in each class folder; pictures are numbered on from `start`."""
    for name, count in counts.items():
        for i in range(count):
            save(noise(start), root / name / f"{i:03d}.png")
            start += 1
    return root


def dataset(root: Path | None = None, source: Source | None = None, **changed: object) -> Dataset:
    """A dataset of class folders whose facts are counted, with some settings changed."""
    settings: dict[str, object] = {
        "name": "made", "source": source or Folders(), "layout": "official" if source else "folder",
        "root": None if root is None else str(root), "cache": None, "num_classes": None, "num_train": None,
        "num_test": None, "mean": None, "std": None, "image_size": 8, "validation": "none", "validation_seed": 0,
        "merge_validation": False, "labels_per_class": None, "fraction": 1.0, "on_bad_image": "error",
        "most_bad_images": 0.01, "most_shared": 0.01, "drop_shared": False, "shorter_side": None,
    }  # fmt: skip
    return Dataset(**(settings | changed))  # type: ignore[arg-type]
