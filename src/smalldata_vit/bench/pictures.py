"""Pictures that benchmarks make for themselves: smooth like photographs, so that coders and resizers do real work."""

import io
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

COARSE = 12
"""Pixels of the random picture that is enlarged: detail at this scale is what a JPEG of a photograph mostly holds."""
GRAIN = 6.0
"""Standard deviation of the noise on top, grey levels."""


def photograph(seed: int, height: int, width: int) -> UInt8[np.ndarray, "height width 3"]:
    """A smooth picture with a little grain."""
    draw = np.random.default_rng(seed)
    coarse = Image.fromarray(draw.integers(0, 256, (COARSE, COARSE, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)
    grain = draw.normal(0, GRAIN, (height, width, 1)).astype(np.float32)
    return np.clip(smooth + grain, 0, 255).astype(np.uint8)


def photographs(count: int, height: int, width: int) -> UInt8[np.ndarray, "count height width 3"]:
    """Different pictures of one size."""
    return np.stack([photograph(seed, height, width) for seed in range(count)])


def jpegs(count: int, height: int, width: int) -> list[bytes]:
    """Different pictures as JPEG files of quality 90."""
    files = []
    for seed in range(count):
        file = io.BytesIO()
        Image.fromarray(photograph(seed, height, width)).save(file, "JPEG", quality=90)
        files.append(file.getvalue())
    return files


def write_class_folders(root: Path, train: int, side: int, classes: int = 4, test: int = 0) -> Path:
    """Class folders of PNG files below `root`, as `dataset=folder` reads them; returns `root`."""
    for split, count in (("train", train), ("test", test)):
        for number in range(count):
            folder = root / split / f"class_{number % classes}"
            folder.mkdir(parents=True, exist_ok=True)
            seed = number if split == "train" else train + number
            Image.fromarray(photograph(seed, side, side)).save(folder / f"{number:05}.png")
    return root
