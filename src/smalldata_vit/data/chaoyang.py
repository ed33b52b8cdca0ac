"""Chaoyang: Zhu, Chen, Peng, Wang, Jin, Hard Sample Aware Noise Robust Learning for Histopathology Image
Classification, IEEE Transactions on Medical Imaging 41(4), 2022; colon slides at 20x, 512 x 512.
"""

import json
from pathlib import Path

from smalldata_vit.data.listed import Lists

NAMES = ("normal", "serrated", "adenocarcinoma", "adenoma")
"""In the order of the labels 0, 1, 2, 3."""


def chaoyang(home: Path) -> Lists:
    """Train and test as `train.json` and `test.json` list them: `[{"name": "train/….JPG", "label": 0}, …]`."""
    return Lists(NAMES, {split: _listed(home / f"{split}.json") for split in ("train", "test")})


def _listed(path: Path) -> list[tuple[str, int]]:
    try:
        found = [(str(entry["name"]), int(entry["label"])) for entry in json.loads(path.read_text(encoding="utf-8"))]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f'{path} is no list of {{"name": FILE, "label": NUMBER}} ({type(error).__name__}: {error})'
        ) from error
    if strange := sorted({label for _, label in found if not 0 <= label < len(NAMES)}):
        raise ValueError(f"{path} has labels {strange}; Chaoyang's are 0 to {len(NAMES) - 1}: {', '.join(NAMES)}")
    return found
