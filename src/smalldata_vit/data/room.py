"""What decoded images take on the disk: said before they are written, and asked for when it is much."""

import logging
import os
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from smalldata_vit.console import console
from smalldata_vit.data.decode import BadImage
from smalldata_vit.data.resolution import Resolution
from smalldata_vit.data.sources import Opened

log = logging.getLogger(__name__)

GB = 10**9
HEADERS = 1_000
"""Images whose headers are read, evenly spaced, to tell what all of them take; of fewer images all."""
PICTURES = 50
"""Images that are decoded for it where there are no headers to read."""


@dataclass(frozen=True)
class Room:
    """What the decoded images of a split may take.

    Arguments:
        limit: GB (10^9 bytes); None: as much as the disk has.
    """

    limit: float | None

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit <= 0:
            raise ValueError(f"dataset.cache_limit={self.limit:g}: it is a number of GB above 0, or null for no limit")

    def check(self, what: str, images: int, size: int, place: Path) -> None:
        """Say the size before anything is written; ValueError if it is above the limit, or above what is free."""
        place.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(place).free
        told = f"{what} ({images:,}) take about {gigabytes(size)} in {place}, where {gigabytes(free)} are free"
        ways = (
            "decode them anew each time they are needed with dataset.decoded=stream, or store them smaller with "
            "dataset.shorter_side=PIXELS"
        )
        if size > free:
            raise ValueError(f"{told}: {ways}, or choose another disk with dataset.cache=FOLDER")
        if self.limit is not None and size > self.limit * GB:
            raise ValueError(
                f"{told}; that is more than dataset.cache_limit={self.limit:g} allows: raise it to "
                f"dataset.cache_limit={-(-size // GB) + 1} if that is meant, {ways}"
            )
        console().print(told, markup=False)  # the log of the stage does not exist yet


def stated_bytes(opened: Opened, resolution: Resolution) -> int:
    """About how many bytes the split's pixels take: of a thousand images from their headers, exact for fewer."""
    count = len(opened.files)
    chosen = np.unique(np.linspace(0, count - 1, HEADERS if opened.image_files else PICTURES).round().astype(int))
    sizes = []
    for i in chosen.tolist() if count else ():
        with suppress(BadImage):  # reported when all are decoded
            height, width = opened.image_files.size(i) if opened.image_files else opened.item(i)[0].shape[:2]
            tall, wide = resolution.size(height, width)
            sizes.append(3 * tall * wide)
    return round(sum(sizes) * count / len(chosen)) if sizes else 0


def gigabytes(size: int) -> str:
    """Bytes in words."""
    return f"{size / GB:.1f} GB" if size >= GB else f"{size / 10**6:.1f} MB"


def writable(folder: Path) -> Path:
    """The folder if files can be made in it, else one of our own for temporary files, said in one line."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        instead = Path(tempfile.gettempdir()) / f"smalldata-vit-{os.getuid()}"
        instead.mkdir(mode=0o700, exist_ok=True)
        if instead.stat().st_uid != os.getuid():
            raise PermissionError(
                f"{folder} cannot be written and {instead} is somebody else's: dataset.cache=FOLDER"
            ) from error
        log.warning(
            "%s cannot be written (%s); decoded images go to %s instead. dataset.cache=FOLDER chooses another place",
            folder, error.strerror, instead,
        )  # fmt: skip
        return instead
