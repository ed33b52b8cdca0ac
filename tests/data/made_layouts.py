"""Tiny copies of how published datasets lie on a disk, and their configs with the counts of such a copy."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from hydra.utils import instantiate
from made_images import noise, save
from omegaconf import OmegaConf
from PIL import Image

from smalldata_vit.data.dataset import Dataset, Splits

CONF = Path(__file__).parents[2] / "conf" / "dataset"


def configured(name: str, root: Path, **changed: object) -> Dataset:
    """The dataset of `conf/dataset/<name>.yaml` below `root`, its counts not checked; dots in keys are written `__`."""
    config = OmegaConf.load(CONF / f"{name}.yaml")
    free = {"num_classes": None, "num_train": None, "num_test": None, "validation": "none", "shorter_side": None}
    for key, value in {
        **free,
        "root": str(root),
        "decoded": "cache",
        "source__download": False,
        "scaled_jpeg": False,
        **changed,
    }.items():
        OmegaConf.update(config, key.replace("__", "."), value, force_add=False)
    made: Dataset = instantiate(config, _convert_="all")
    return made


def loaded(name: str, root: Path, **changed: object) -> Splits:
    """Its splits."""
    return configured(name, root, **changed).load(0)


def jpegs(home: Path, files: list[str], start: int = 0) -> dict[str, np.ndarray]:
    """A JPEG of its own for each name; what a reader must see of each."""
    seen = {}
    for number, file in enumerate(files, start):
        path = save(noise(number, 8, 9), home / file)
        seen[file] = np.asarray(Image.open(path).convert("RGB"))
    return seen


def write(path: Path, lines: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def shown(splits: Splits, split: str) -> dict[str, str]:
    """By file, the name of the class that an image of the split is said to show."""
    images = {"train": splits.train, "val": splits.val, "test": splits.test}[split]
    assert images is not None
    return {file: images.names[label] for file, label in zip(images.files, images.labels.tolist(), strict=True)}


def pixels(splits: Splits, split: str) -> Mapping[str, np.ndarray]:
    """By file, the image (height, width, 3)."""
    images = {"train": splits.train, "val": splits.val, "test": splits.test}[split]
    assert images is not None
    taken = images.take(torch.arange(len(images)))
    return {file: one.permute(1, 2, 0).numpy() for file, one in zip(images.files, taken, strict=True)}
