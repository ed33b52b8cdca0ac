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


def ragged_folders(root: Path) -> Path:
    """Pictures of all sizes in train and test; one is in both, one lies on its side, one cannot be read."""
    for i in range(14):
        save(noise(i, 20 + i, 40 - i), root / "train" / "ab"[i % 2] / f"{i:02d}.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise(20, 30, 50)).save(root / "train" / "a" / "lying.jpg", exif=exif)
    (root / "train" / "a" / "00_no_image.png").write_bytes(b"")
    class_folders(root / "test", {"a": 2, "b": 2}, start=30)
    save(noise(4, 24, 36), root / "test" / "a" / "shared.png")
    return root


def dataset(root: Path | None = None, source: Source | None = None, **changed: object) -> Dataset:
    """A dataset of class folders whose facts are counted, with some settings changed."""
    settings: dict[str, object] = {
        "name": "made", "source": source or Folders(), "layout": "official" if source else "folder",
        "root": None if root is None else str(root), "cache": None, "num_classes": None, "num_train": None,
        "num_test": None, "mean": None, "std": None, "image_size": 8, "validation": "none", "validation_seed": 0,
        "merge_validation": False, "labels_per_class": None, "fraction": 1.0, "on_bad_image": "error",
        "most_bad_images": 0.01, "most_shared": 0.01, "drop_shared": False, "shorter_side": None,
        "scaled_jpeg": False, "decoded": "cache", "cache_limit": 20.0, "workers": 1,
    }  # fmt: skip
    return Dataset(**(settings | changed))  # type: ignore[arg-type]
