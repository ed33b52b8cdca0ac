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


@dataclass(frozen=True)
class Opened:
    """A split whose images can be read one by one."""

    names: Sequence[str]
    """Of the classes."""
    files: Sequence[str]
    """What each image is called in messages and records."""
    item: Callable[[int], tuple[np.ndarray, int]]
    """Picture uint8 (height, width, 3) and label of one image; BadImage if it cannot be read. Called from threads."""


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
        count = len(one.files)
        return Opened(
            one.names,
            [*one.files, *two.files],
            lambda i: one.item(i) if i < count else two.item(i - count),
        )

    stamp = None
    if first.stamp is not None and second.stamp is not None:
        stamp = hashlib.sha256(f"{first.stamp}+{second.stamp}".encode()).hexdigest()
    reasons = [*first.ignored, *(r for r in second.ignored if r not in first.ignored)]
    ignored = {r: [*first.ignored.get(r, ()), *second.ignored.get(r, ())] for r in reasons}
    return RawSplit(stamp, both, ignored)
