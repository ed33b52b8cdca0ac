"""Where images come from before they lie in memory: the words for it, and where downloads and caches go."""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

CACHE = "SMALLDATA_VIT_CACHE"
"""Environment variable that names the folder for decoded images and downloads."""
SPLITS = ("train", "val", "test")


@runtime_checkable
class ImageFiles(Protocol):
    """Image files that we decode ourselves; BadImage if one cannot be read. It can be sent to another process."""

    def __call__(self, i: int) -> tuple[np.ndarray, int]:
        """Picture and label of one image."""

    def scaled(self, i: int, shorter_side: int) -> tuple[np.ndarray, int]:
        """The same with at most so many pixels on the shorter side, JPEG files decoded for that size."""

    def size(self, i: int) -> tuple[int, int]:
        """Height and width of the picture, from the file's header."""


@dataclass(frozen=True)
class Opened:
    """A split whose images can be read one by one."""

    names: Sequence[str]
    """Of the classes."""
    files: Sequence[str]
    """What each image is called in messages and records."""
    item: Callable[[int], tuple[np.ndarray, int]]
    """Picture uint8 (height, width, 3) and label of one image; BadImage if it cannot be read. Called from threads, and
    sent to other processes where images are decoded there."""
    image_files: ImageFiles | None = None
    """`item`, where that is what it is."""


@dataclass(frozen=True)
class RawSplit:
    """A split that nobody has read yet."""

    stamp: str | None
    """Changes when the files do (names, sizes, times); None: so small that it is read anew each time."""
    open: Callable[[], Opened]
    """Reads what is needed to list the images."""
    ignored: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """What lies there and is not read: reason to names."""


@runtime_checkable
class Source(Protocol):
    """A dataset's files, or whatever else its images are made from."""

    def splits(self, root: Path) -> dict[str, RawSplit]:
        """The splits that there are, by name (`train`, `val`, `test`), read below `root`."""


def cache_folder(cache: str | None) -> Path:
    """The folder that was asked for, else the environment's, else `~/.cache/smalldata-vit`."""
    chosen = cache or os.environ.get(CACHE) or "~/.cache/smalldata-vit"
    return Path(chosen).expanduser()


def stamp_of(root: Path, files: Sequence[Path]) -> str:
    """A hash of where files lie, their names, sizes, times of change and permissions; a missing file counts as such."""
    digest = hashlib.sha256(os.fsencode(root.resolve()))
    for file in files:
        try:
            facts = file.stat()
            words = f"{facts.st_size}:{facts.st_mtime_ns}:{facts.st_mode}"
        except OSError as error:
            words = type(error).__name__
        digest.update(b"\x00" + os.fsencode(file) + b"\x00" + words.encode())
    return digest.hexdigest()


def joined(first: RawSplit, second: RawSplit) -> RawSplit:
    """Two splits as one, the first one's images in front."""

    def both() -> Opened:
        one, two = first.open(), second.open()
        if list(one.names) != list(two.names):
            raise ValueError(f"the splits have different classes: {list(one.names)} and {list(two.names)}")
        item = _Both(one.item, two.item, len(one.files))
        files = None
        if one.image_files is not None and two.image_files is not None:
            files = _BothFiles(one.image_files, two.image_files, len(one.files))
        return Opened(one.names, [*one.files, *two.files], item if files is None else files, files)

    stamp = None
    if first.stamp is not None and second.stamp is not None:
        stamp = hashlib.sha256(f"{first.stamp}+{second.stamp}".encode()).hexdigest()
    reasons = [*first.ignored, *(r for r in second.ignored if r not in first.ignored)]
    ignored = {r: [*first.ignored.get(r, ()), *second.ignored.get(r, ())] for r in reasons}
    return RawSplit(stamp, both, ignored)


@dataclass(frozen=True)
class _Both:
    first: Callable[[int], tuple[np.ndarray, int]]
    second: Callable[[int], tuple[np.ndarray, int]]
    count: int
    """Of the first one's images."""

    def __call__(self, i: int) -> tuple[np.ndarray, int]:
        return self.first(i) if i < self.count else self.second(i - self.count)


@dataclass(frozen=True)
class _BothFiles:
    first: ImageFiles
    second: ImageFiles
    count: int
    """Of the first one's images."""

    def __call__(self, i: int) -> tuple[np.ndarray, int]:
        return self.first(i) if i < self.count else self.second(i - self.count)

    def scaled(self, i: int, shorter_side: int) -> tuple[np.ndarray, int]:
        first = i < self.count
        return self.first.scaled(i, shorter_side) if first else self.second.scaled(i - self.count, shorter_side)

    def size(self, i: int) -> tuple[int, int]:
        return self.first.size(i) if i < self.count else self.second.size(i - self.count)
